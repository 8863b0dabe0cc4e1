// Draws one dashboard (?uid=…) and tells the driver when it is done, and what went wrong.
import { initPluginTranslations } from '@grafana/i18n';

const problems: string[] = [];
window.addEventListener('error', (event) => problems.push(String(event.error?.stack ?? event.message)));
window.addEventListener('unhandledrejection', (event) => problems.push(String(event.reason?.stack ?? event.reason)));

const settled = () => new Promise((resolve) => setTimeout(resolve, 1500));

async function main() {
  const uid = new URLSearchParams(location.search).get('uid');
  const picture = await (await fetch(`/pictures/${uid}.json`)).json();
  // Components translate their texts when their module is loaded, so this must come first.
  await initPluginTranslations('grafana', []);
  const { draw } = await import('./dashboard');
  await draw(document.getElementById('root')!, picture, (problem) => problems.push(problem));
  await document.fonts.ready;
  await settled();
}

main()
  .catch((error) => problems.push(String(error.stack ?? error)))
  .finally(() => fetch('/done', { method: 'POST', body: JSON.stringify(problems) }));
