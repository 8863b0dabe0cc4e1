// Draws one dashboard (?uid=…); `window.problems` appears when that is done, and says what went wrong.
import { initPluginTranslations } from '@grafana/i18n';

const problems: string[] = [];
window.addEventListener('error', (event) => problems.push(String(event.error?.stack ?? event.message)));
window.addEventListener('unhandledrejection', (event) => problems.push(String(event.reason?.stack ?? event.reason)));

// Legends are measured, then plots are drawn beside them.
const SETTLED_MS = 1500;

async function main() {
  const uid = new URLSearchParams(location.search).get('uid');
  const picture = await (await fetch(`/pictures/${uid}.json`)).json();
  // Components translate their texts when their module is loaded, so this must come first.
  await initPluginTranslations('grafana', []);
  const { draw } = await import('./dashboard');
  await draw(document.getElementById('root')!, picture, (problem) => problems.push(problem));
  await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
}

main()
  .catch((error) => problems.push(String(error.stack ?? error)))
  .finally(() => Object.assign(window, { problems }));
