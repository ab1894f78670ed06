// pictures.mjs - the page's pictures in docs/: page_light.png at rest, page_dark.png at work. Run by hand:
//   TESSERA=build/release/apps/tessera node tests/web/pictures.mjs docs/pictures   (after npm ci in tests/web)
import { join } from 'node:path';
import { Driver } from './page_driver.mjs';
import { startBrowser, startServer, until } from './harness.mjs';

const folder = process.argv[2];
if (!folder) throw new Error('say where to');
const [server, browser] = await Promise.all([startServer(), startBrowser()]);

async function scene(page, seed) {
  await page.page.fill('#base-prompt', 'grass field');
  await page.page.fill('#width', '256');
  await page.page.locator('#width').press('Enter');
  await page.tool('b');
  await page.stroke([[0.08, 0.42], [0.2, 0.2], [0.32, 0.42], [0.3, 0.85], [0.1, 0.85], [0.08, 0.42]]);
  await page.tool('f');
  await page.page.mouse.click(...await page.at(0.2, 0.55));
  await page.prompt(0).fill('a house on grass field');
  await page.card(0).locator('.name').fill('House');
  await page.page.click('#add-region');
  await page.prompt(1).fill('a tree on grass field');
  await page.card(1).locator('.name').fill('Tree');
  await page.tool('r');
  await page.stroke([[0.39, 0.08], [0.63, 0.93]]);
  await page.page.click('#add-region');
  await page.prompt(2).fill('a sunflower on grass field');
  await page.card(2).locator('.name').fill('Sunflower');
  await page.tool('b');
  await page.stroke([[0.83, 0.3], [0.9, 0.42], [0.88, 0.62], [0.78, 0.62], [0.75, 0.4], [0.83, 0.3]]);
  await page.tool('f');
  await page.page.mouse.click(...await page.at(0.83, 0.5));
  await page.tool('b');
  await page.page.selectOption('#seed-mode', 'fixed');
  await page.page.fill('#seed', seed);
}

try {
  const viewport = { width: 1360, height: 850 };
  const light = await Driver.open(browser, server.url, { viewport, colorScheme: 'light' });
  await scene(light, '2');
  await light.card(2).locator('summary').click();
  await light.card(2).locator('[data-key="feather"] input').fill('8');
  for (const seed of ['2', '5', '7', '11']) {
    await light.page.fill('#seed', seed);
    await light.generate();
  }
  await light.page.locator('#stage').focus();
  await light.page.mouse.move(...await light.at(0.7, 0.75));
  await light.page.locator('#panel-body').evaluate((panel) => { panel.scrollTop = 0; });
  await light.page.waitForTimeout(500);
  await light.page.screenshot({ path: join(folder, 'page_light.png') });
  await light.close();

  const dark = await Driver.open(browser, server.url, { viewport, colorScheme: 'dark' });
  await scene(dark, '11');
  await dark.page.fill('[data-key="steps"] input', '40');
  await dark.page.click('#generate');
  await dark.page.fill('#seed', '12');
  await dark.page.click('#generate');
  await dark.page.locator('#panel-body').evaluate((panel) => { panel.scrollTop = 0; });
  await until(async () => /^Step (2[6-9]|3\d)/.test(await dark.page.textContent('#progress-words')), 'the middle of the job');
  await dark.page.screenshot({ path: join(folder, 'page_dark.png') });
  await dark.close();
} finally {
  await browser.close();
  await server.stop();
}
