// node draw.cjs CHROMIUM URL FOLDER MOST_BYTES UID…: a picture of each dashboard in one headless browser.
// Writes one line of JSON for each: {uid, bytes, problems}.
const fs = require('fs');
const path = require('path');
const puppeteer = require('puppeteer-core');
const sharp = require('sharp');

const [chromium, url, folder, mostBytes, ...uids] = process.argv.slice(2);
const WITHIN_MS = 180_000;
const PALETTES = [256, 128, 64, 32];
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--hide-scrollbars',
  '--force-device-scale-factor=1',
];

async function small(png) {
  for (const colours of PALETTES) {
    const found = await sharp(png).png({ palette: true, colours, dither: 0, effort: 10, compressionLevel: 9 }).toBuffer();
    if (found.length <= Number(mostBytes) || colours === PALETTES.at(-1)) {
      return found;
    }
  }
}

// Tables that have rows of which none would be on the picture.
function blank() {
  const seen = (cell) => cell.checkVisibility({ contentVisibilityAuto: true });
  return [...document.querySelectorAll('.preview [role="grid"]')]
    .filter((grid) => !Array.from(grid.querySelectorAll('[role="gridcell"]')).some(seen))
    .map((grid) => `a table is blank: ${grid.closest('section')?.innerText.split('\n')[0] ?? grid.innerText}`);
}

async function draw(browser, uid) {
  const page = await browser.newPage();
  const missed = [];
  page.on('response', (response) => {
    if (!response.ok() && !response.url().endsWith('/favicon.ico')) {
      missed.push(`nothing at ${new URL(response.url()).pathname}`);
    }
  });
  await page.goto(`${url}/?uid=${uid}`, { timeout: WITHIN_MS });
  await page.waitForFunction('window.problems !== undefined', { timeout: WITHIN_MS });
  const problems = [...(await page.evaluate('window.problems')), ...(await page.evaluate(blank)), ...missed];
  const picture = await (await page.$('.preview'))?.screenshot();
  const bytes = picture ? await small(picture) : Buffer.alloc(0);
  if (picture) {
    fs.writeFileSync(path.join(folder, `${uid}.png`), bytes);
  }
  await page.close();
  return { uid, bytes: bytes.length, problems };
}

async function main() {
  const browser = await puppeteer.launch({
    executablePath: chromium,
    args: FLAGS,
    defaultViewport: { width: 1440, height: 2400 },
    protocolTimeout: WITHIN_MS,
  });
  try {
    for (const uid of uids) {
      process.stdout.write(`${JSON.stringify(await draw(browser, uid))}\n`);
    }
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
