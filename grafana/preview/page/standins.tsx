// Panels whose component is part of Grafana's application, not of its packages: drawn here in their likeness.
import { FieldType, getFieldDisplayName } from '@grafana/data';
import { useTheme2 } from '@grafana/ui';

import type { Given } from './panels';
import type { Picture } from './types';

export function Missing({ reason }: { reason: string }) {
  const theme = useTheme2();
  const style = { border: `1px dashed ${theme.colors.border.strong}`, color: theme.colors.text.secondary };
  return (
    <div style={{ ...style, height: '100%', display: 'grid', placeItems: 'center', fontSize: 13, padding: 8 }}>{reason}</div>
  );
}

export function NoData() {
  const theme = useTheme2();
  return <div style={{ height: '100%', display: 'grid', placeItems: 'center', color: theme.colors.text.secondary }}>none</div>;
}

interface Span {
  from: number;
  to: number;
  text: string;
  color: string;
}

function spans(times: number[], values: Array<number | null>, interval: number, display: (value: unknown) => any): Span[] {
  const found: Span[] = [];
  times.forEach((time, index) => {
    const value = values[index];
    if (value === null || value === undefined) {
      return;
    }
    const { text, color } = display(value);
    const last = found.at(-1);
    if (last && last.text === text && time - last.to <= interval) {
      last.to = time + interval;
    } else {
      if (last && last.to > time) {
        last.to = time;
      }
      found.push({ from: time, to: time + interval, text, color });
    }
  });
  return found;
}

export function StateTimeline({ data, range, width, height, theme }: Given) {
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  const lanes = data.flatMap((frame) => {
    const time = frame.fields.find((field) => field.type === FieldType.time)!;
    return frame.fields
      .filter((field) => field !== time)
      .map((field) => ({
        name: getFieldDisplayName(field, frame, data),
        spans: spans(time.values, field.values, time.config.interval ?? 60_000, field.display!),
      }));
  });
  if (!lanes.length) {
    return <NoData />;
  }
  const names = 110;
  const foot = 44;
  const lane = (height - foot) / lanes.length;
  const x = (time: number) => names + ((Math.max(from, Math.min(to, time)) - from) / (to - from)) * (width - names);
  const ticks = Array.from({ length: 7 }, (_, index) => from + ((index + 0.5) / 7) * (to - from));
  const legend = new Map(lanes.flatMap((each) => each.spans.map((span) => [span.text, span.color] as const)));
  const clock = (time: number) => new Date(time).toISOString().slice(11, 16);
  return (
    <svg width={width} height={height} fontSize={12} fill={theme.colors.text.secondary} fontFamily="inherit">
      {lanes.map(({ name, spans }, row) => (
        <g key={name} transform={`translate(0 ${row * lane})`}>
          <text x={names - 8} y={lane / 2 + 4} textAnchor="end">{name}</text>
          {spans.map((span) => {
            const [left, right] = [x(span.from), x(span.to)];
            return (
              <g key={span.from}>
                <rect x={left} y={lane * 0.1} width={Math.max(1, right - left)} height={lane * 0.8} fill={span.color} opacity={0.8} />
                {right - left > span.text.length * 8 && (
                  <text x={left + 5} y={lane / 2 + 4} fill={theme.colors.getContrastText(span.color)}>{span.text}</text>
                )}
              </g>
            );
          })}
        </g>
      ))}
      {ticks.map((time) => (
        <text key={time} x={x(time)} y={height - 30} textAnchor="middle">{clock(time)}</text>
      ))}
      {[...legend].map(([text, color], index) => (
        <g key={text} transform={`translate(${index * 110} ${height - 14})`}>
          <rect width={14} height={4} y={2} rx={2} fill={color} />
          <text x={20} y={9}>{text}</text>
        </g>
      ))}
    </svg>
  );
}

const LEVELS: Record<string, string> = { WARN: 'orange', WARNING: 'orange', ERROR: 'red', CRITICAL: 'purple', FATAL: 'purple' };

export function Logs({ data, theme, height }: Given) {
  const [frame] = data;
  if (!frame?.length) {
    return <NoData />;
  }
  const column = (name: string) => frame.fields.find((field) => field.name === name)!.values;
  const [times, lines, labels] = [column('Time'), column('Line'), column('labels')];
  return (
    <div style={{ height, overflow: 'hidden', fontFamily: theme.typography.fontFamilyMonospace, fontSize: 12 }}>
      {times.map((time: number, index: number) => {
        const color = theme.visualization.getColorByName(LEVELS[labels[index].severity_text] ?? 'green');
        return (
          <div key={index} style={{ display: 'flex', gap: 10, lineHeight: '20px', borderLeft: `3px solid ${color}`, paddingLeft: 8 }}>
            <span style={{ color: theme.colors.text.secondary, whiteSpace: 'nowrap' }}>
              {new Date(time).toISOString().replace('T', ' ').slice(0, 23)}
            </span>
            <span style={{ whiteSpace: 'nowrap' }}>{lines[index]}</span>
          </div>
        );
      })}
    </div>
  );
}

export function AlertList({ alerts }: { alerts: Picture['alerts'][string] }) {
  const theme = useTheme2();
  if (!alerts.length) {
    return <div style={{ color: theme.colors.text.secondary }}>No alerts match these filters</div>;
  }
  return (
    <div style={{ fontSize: 13 }}>
      {alerts.map(({ name, severity, state }) => (
        <div key={name} style={{ display: 'flex', gap: 12, padding: '5px 0', borderBottom: `1px solid ${theme.colors.border.weak}` }}>
          <span style={{ color: state === 'firing' ? theme.colors.error.text : theme.colors.warning.text, width: 60 }}>{state}</span>
          <span>{name}</span>
          <span style={{ color: theme.colors.text.secondary, marginLeft: 'auto' }}>{severity}</span>
        </div>
      ))}
    </div>
  );
}
