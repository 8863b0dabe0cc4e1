// What a dashboard in a file may hold: Grafana's published type, with its enumerations as plain text, and with what the Loki
// data source reads from an annotation.
import type { AnnotationQuery, Dashboard } from '@grafana/schema';

type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Key in keyof T]: Plain<T[Key]> }
      : T;

interface LokiAnnotation {
  expr?: string;
  maxLines?: number;
  titleFormat?: string;
  textFormat?: string;
  tagKeys?: string;
}

export type DashboardFile = Omit<Plain<Dashboard>, 'annotations'> & {
  annotations: { list: Array<Plain<AnnotationQuery> & LokiAnnotation> };
};
