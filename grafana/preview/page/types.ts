// What the driver (grafana/preview) hands to the page for one dashboard.
import type { DataFrame } from '@grafana/data';

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  options: any;
  fieldConfig: { defaults: any; overrides: any[] };
  transformations?: any[];
}

export interface Mark {
  time: number;
  text: string;
}

export interface Exemplar {
  time: number;
  value: number;
}

export interface Answer {
  frames: DataFrame[];
  exemplars: Exemplar[];
  /** Why there is no data, where the driver could not ask. */
  missing?: string;
}

export interface Picture {
  dashboard: { title: string; panels: Panel[] };
  range: { from: number; to: number };
  variables: Array<{ label: string; value: string }>;
  answers: Record<string, Answer>;
  marks: Mark[];
  /** By the panel that lists them. */
  alerts: Record<string, Array<{ name: string; severity: string; state: string }>>;
  caption: string;
}
