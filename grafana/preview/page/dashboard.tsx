// The frame of a dashboard: its title, its variables, its rows and panels where they lie in Grafana's grid.
import { createTheme, dateTime, standardFieldConfigEditorRegistry, type DataFrame, type TimeRange } from '@grafana/data';
import { GlobalStyles, Icon, PanelChrome, ThemeContext } from '@grafana/ui';
import { Component, type ReactNode } from 'react';
import { flushSync } from 'react-dom';
import { createRoot } from 'react-dom/client';

import { prepared, registerTransformations } from './frames';
import { drawn } from './panels';
import { AlertList, Missing } from './standins';
import type { Panel, Picture } from './types';

const WIDTH = 1440;
const MARGIN = 16;
const COLUMNS = 24;
const CELL = 30;
const GAP = 8;
const COLUMN = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS;

const theme = createTheme({ colors: { mode: 'dark' } });

class Boundary extends Component<{ title: string; tell: (problem: string) => void; children: ReactNode }, { error?: Error }> {
  state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  componentDidCatch(error: Error) {
    this.props.tell(`${this.props.title}: ${error.stack ?? error}`);
  }

  render() {
    return this.state.error ? <Missing reason={String(this.state.error)} /> : this.props.children;
  }
}

function place({ x, y, w, h }: Panel['gridPos']) {
  return {
    position: 'absolute' as const,
    left: MARGIN + x * (COLUMN + GAP),
    top: y * (CELL + GAP),
    width: w * COLUMN + (w - 1) * GAP,
    height: h * CELL + (h - 1) * GAP,
  };
}

function Row({ panel }: { panel: Panel }) {
  const style = { ...place(panel.gridPos), display: 'flex', alignItems: 'center', gap: 6 };
  return (
    <div style={{ ...style, color: theme.colors.text.primary, fontWeight: 500, fontSize: 16 }}>
      <Icon name="angle-down" /> {panel.title}
    </div>
  );
}

function Header({ picture }: { picture: Picture }) {
  const box = { border: `1px solid ${theme.colors.border.medium}`, borderRadius: 4, padding: '3px 8px', fontSize: 13 };
  const when = (time: number) => dateTime(time).utc().format('YYYY-MM-DD HH:mm:ss');
  return (
    <div style={{ display: 'flex', alignItems: 'center', gap: 8, padding: `14px ${MARGIN}px 10px` }}>
      <span style={{ fontSize: 20, fontWeight: 500, marginRight: 16 }}>{picture.dashboard.title}</span>
      {picture.variables.map(({ label, value }) => (
        <span key={label} style={box}>
          <span style={{ color: theme.colors.text.secondary }}>{label}</span> {value}
        </span>
      ))}
      <span style={{ ...box, marginLeft: 'auto' }}>
        <Icon name="clock-nine" /> {when(picture.range.from)} to {when(picture.range.to)} UTC
      </span>
    </div>
  );
}

function Body({ picture, data, range, tell }: {
  picture: Picture;
  data: Map<number, DataFrame[]>;
  range: TimeRange;
  tell: (problem: string) => void;
}) {
  const bottom = Math.max(...picture.dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div style={{ position: 'relative', height: bottom * (CELL + GAP) }}>
      {picture.dashboard.panels.map((panel) => {
        if (panel.type === 'row') {
          return <Row key={panel.id} panel={panel} />;
        }
        const { width, height, ...style } = place(panel.gridPos);
        const answer = picture.answers[panel.id];
        const inside = (innerWidth: number, innerHeight: number) => {
          if (panel.type === 'alertlist') {
            return <AlertList alerts={picture.alerts[panel.id]} />;
          }
          if (answer.missing) {
            return <Missing reason={answer.missing} />;
          }
          const given = { panel, data: data.get(panel.id)!, range, theme, width: innerWidth, height: innerHeight };
          return drawn({ ...given, marks: picture.marks, exemplars: answer.exemplars });
        };
        return (
          <div key={panel.id} style={{ ...style, width, height }}>
            <PanelChrome
              title={panel.title}
              description={panel.description}
              width={width}
              height={height}
              padding={panel.type === 'table' ? 'none' : 'md'}
            >
              {(innerWidth, innerHeight) => (
                <Boundary title={panel.title} tell={tell}>
                  {inside(innerWidth, innerHeight)}
                </Boundary>
              )}
            </PanelChrome>
          </div>
        );
      })}
    </div>
  );
}

// Components measure their texts once, so the fonts must be there before them.
async function withFonts(root: HTMLElement) {
  const styles = root.parentElement!.insertBefore(document.createElement('div'), root);
  flushSync(() => createRoot(styles).render(<ThemeContext.Provider value={theme}><GlobalStyles /></ThemeContext.Provider>));
  await Promise.all(['400', '500'].map((weight) => document.fonts.load(`${weight} 12px Inter`)));
}

export async function draw(root: HTMLElement, picture: Picture, tell: (problem: string) => void) {
  standardFieldConfigEditorRegistry.setInit(() => []);
  registerTransformations();
  const data = new Map<number, DataFrame[]>();
  for (const panel of picture.dashboard.panels) {
    const answer = picture.answers[panel.id];
    if (answer && !answer.missing) {
      data.set(panel.id, await prepared(panel, answer.frames, theme));
    }
  }
  const [from, to] = [dateTime(picture.range.from), dateTime(picture.range.to)];
  const range = { from, to, raw: { from, to } };
  const page = (
    <ThemeContext.Provider value={theme}>
      <div className="preview" style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary }}>
        <Header picture={picture} />
        <Body picture={picture} data={data} range={range} tell={tell} />
        <div style={{ padding: `10px ${MARGIN}px`, fontSize: 12, color: theme.colors.text.secondary }}>{picture.caption}</div>
      </div>
    </ThemeContext.Provider>
  );
  await withFonts(root);
  flushSync(() => createRoot(root).render(page));
}
