// Between a data source's answer and a component: the panel's transformations, then its units, colours and names.
import {
  FieldType,
  Registry,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  guessFieldTypeForField,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
  type DataFrame,
  type Field,
  type GrafanaTheme2,
} from '@grafana/data';
import { lastValueFrom, map, type Observable } from 'rxjs';

import type { Panel } from './types';

// Grafana's own lives in its application, not in the package.
const extractFields = {
  id: 'extractFields',
  name: 'Extract fields',
  operator: (options: { source: string; keepTime?: boolean }) => (source: Observable<DataFrame[]>) =>
    source.pipe(map((frames) => frames.map((frame) => extracted(frame, options)))),
};

function extracted(frame: DataFrame, options: { source: string; keepTime?: boolean }): DataFrame {
  const source = frame.fields.find((field) => field.name === options.source);
  if (!source) {
    return frame;
  }
  const names = new Set<string>(source.values.flatMap((value) => Object.keys(value)));
  const fields = [...names].map((name) => {
    const field: Field = { name, type: FieldType.other, config: {}, values: source.values.map((value) => value[name]) };
    return { ...field, type: guessFieldTypeForField(field) ?? FieldType.other };
  });
  const time = options.keepTime ? frame.fields.filter((field) => field.type === FieldType.time) : [];
  return { ...frame, fields: [...time, ...fields] };
}

export function registerTransformations() {
  const used = [standardTransformers.organizeFieldsTransformer, standardTransformers.sortByTransformer, extractFields];
  standardTransformersRegistry.setInit(
    () => used.map((each) => ({ id: each.id, name: each.name, transformation: async () => each })) as any
  );
}

// What a field may have. Without it here neither a default nor an override reaches the component.
const STANDARD = ['unit', 'decimals', 'min', 'max', 'noValue', 'displayName', 'color', 'thresholds', 'mappings', 'links', 'filterable'];
const OF_NUMBERS = new Set(['decimals', 'min', 'max', 'thresholds']);

// The first step has no value; a value below zero is not below it.
const fromBelow = (step: { value: number | null }) => ({ ...step, value: step.value ?? -Infinity });

function registry({ defaults, overrides }: Panel['fieldConfig']) {
  const set = overrides.flatMap((override) => override.properties.map((property: { id: string }) => property.id));
  const custom = new Set([
    ...Object.keys(defaults.custom ?? {}),
    ...set.filter((id) => id.startsWith('custom.')).map((id) => id.slice('custom.'.length)),
  ]);
  const item = (id: string, path: string, isCustom: boolean) => ({
    id,
    path,
    isCustom,
    name: id,
    process: (value: any) => (id === 'thresholds' && value ? { ...value, steps: value.steps.map(fromBelow) } : value),
    shouldApply: (field: Field) => !OF_NUMBERS.has(id) || field.type === FieldType.number,
  });
  const items = [...STANDARD.map((id) => item(id, id, false)), ...[...custom].map((id) => item(`custom.${id}`, id, true))];
  return new Registry(() => items as any);
}

export async function prepared(panel: Panel, frames: DataFrame[], theme: GrafanaTheme2): Promise<DataFrame[]> {
  const unknown = (panel.transformations ?? []).filter((each) => !standardTransformersRegistry.getIfExists(each.id));
  if (unknown.length) {
    throw new Error(`the preview does not know these transformations: ${unknown.map((each) => each.id)}`);
  }
  const data = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames.map((frame) => toDataFrame(frame))));
  const styled = applyFieldOverrides({
    data,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registry(panel.fieldConfig) as any,
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
  cacheFieldDisplayNames(styled);
  return styled;
}
