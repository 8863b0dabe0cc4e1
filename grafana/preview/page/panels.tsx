// Each kind of panel, with the component that Grafana's own panel uses.
import {
  VizOrientation,
  getFieldDisplayValues,
  type DataFrame,
  type FieldDisplay,
  type GrafanaTheme2,
  type TimeRange,
} from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, VizRepeater, type UPlotConfigBuilder } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

import { Logs, NoData, StateTimeline } from './standins';
import type { Exemplar, Mark, Panel } from './types';

export interface Given {
  panel: Panel;
  data: DataFrame[];
  range: TimeRange;
  theme: GrafanaTheme2;
  width: number;
  height: number;
  marks: Mark[];
  exemplars: Exemplar[];
}

const KINDS: Record<string, (given: Given) => JSX.Element> = {
  timeseries: Lines,
  stat: Stat,
  bargauge: Bars,
  table: Rows,
  'state-timeline': StateTimeline,
  logs: Logs,
};

export function drawn(given: Given) {
  const Kind = KINDS[given.panel.type];
  if (!Kind) {
    throw new Error(`the preview cannot draw a ${given.panel.type}`);
  }
  return <Kind {...given} />;
}

function Lines({ panel, data, range, theme, width, height, marks, exemplars }: Given) {
  if (!data.some((frame) => frame.length)) {
    return <NoData />;
  }
  // In Grafana, annotations and exemplars are plugins of the application: here they are painted over the plot.
  const paint = (config: UPlotConfigBuilder) => {
    config.addHook('draw', (plot) => {
      const scale = plot.series[1].scale!;
      paintMarks(plot, marks, theme);
      paintExemplars(plot, exemplars, scale, theme);
    });
    return null;
  };
  return (
    <TimeSeries
      frames={data}
      structureRev={1}
      width={width}
      height={height}
      timeRange={range}
      timeZone="utc"
      legend={panel.options.legend}
    >
      {paint}
    </TimeSeries>
  );
}

function paintMarks(plot: uPlot, marks: Mark[], theme: GrafanaTheme2) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName('orange');
  ctx.globalAlpha = 0.8;
  ctx.setLineDash([4, 3]);
  for (const { time } of marks) {
    const x = plot.valToPos(time, 'x', true);
    if (x >= bbox.left && x <= bbox.left + bbox.width) {
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x - 4, bbox.top + bbox.height + 6);
      ctx.lineTo(x + 4, bbox.top + bbox.height + 6);
      ctx.fill();
    }
  }
  ctx.restore();
}

function paintExemplars(plot: uPlot, exemplars: Exemplar[], scale: string, theme: GrafanaTheme2) {
  const { ctx, bbox } = plot;
  const { max = 0 } = plot.scales[scale];
  ctx.save();
  ctx.fillStyle = theme.visualization.getColorByName('blue');
  for (const { time, value } of exemplars) {
    const x = plot.valToPos(time, 'x', true);
    const y = plot.valToPos(Math.min(value, max ?? value), scale, true);
    if (x >= bbox.left && x <= bbox.left + bbox.width) {
      ctx.save();
      ctx.translate(x, y);
      ctx.rotate(Math.PI / 4);
      ctx.fillRect(-3, -3, 6, 6);
      ctx.restore();
    }
  }
  ctx.restore();
}

function values({ panel, data, theme }: Given) {
  return getFieldDisplayValues({
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    theme,
    data,
    timeZone: 'utc',
  });
}

function Stat(given: Given) {
  const { panel, width, height, theme } = given;
  return (
    <VizRepeater
      getValues={() => values(given)}
      renderValue={({ value, width, height, count }: any) => (
        <BigValue
          value={value.display}
          count={count}
          width={width}
          height={height}
          theme={theme}
          colorMode={panel.options.colorMode}
          graphMode={panel.options.graphMode}
          justifyMode={panel.options.justifyMode}
          textMode={panel.options.textMode}
        />
      )}
      source={given.data}
      renderCounter={1}
      width={width}
      height={height}
      itemSpacing={3}
      autoGrid
      orientation={VizOrientation.Auto}
    />
  );
}

function Bars(given: Given) {
  const { panel, width, height, theme } = given;
  const { options } = panel;
  return (
    <VizRepeater
      getValues={() => values(given)}
      renderValue={({ value, width, height, orientation }: { value: FieldDisplay; [key: string]: any }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex ?? 0)}
          width={width}
          height={height}
          orientation={orientation}
          theme={theme}
          displayMode={options.displayMode}
          showUnfilled={options.showUnfilled}
          valueDisplayMode={options.valueMode}
          namePlacement={options.namePlacement}
          itemSpacing={8}
        />
      )}
      source={given.data}
      renderCounter={1}
      width={width}
      height={height}
      itemSpacing={10}
      minVizWidth={options.minVizWidth}
      minVizHeight={options.minVizHeight}
      maxVizHeight={options.maxVizHeight}
      orientation={options.orientation}
    />
  );
}

function Rows({ panel, data, width, height }: Given) {
  const [frame] = data;
  if (!frame?.length) {
    return <NoData />;
  }
  return (
    <TableNG
      data={frame}
      width={width}
      height={height}
      cellHeight={panel.options.cellHeight}
      noHeader={!panel.options.showHeader}
      fieldConfig={panel.fieldConfig}
      structureRev={1}
      enableVirtualization={false}
    />
  );
}
