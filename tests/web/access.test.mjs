// access.test.mjs - axe-core finds no serious fault: light and dark, at rest and at work, dialogs open, on a tablet.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { Driver } from './page_driver.mjs';
import { startBrowser, startServer, until } from './harness.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let server;
let browser;
before(async () => { [server, browser] = await Promise.all([startServer(), startBrowser()]); });
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Runs axe through the debugger, which the page's policy against foreign scripts does not stop. */
async function check(page, where) {
  await page.page.evaluate(axe);
  const found = await page.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const serious = found.violations.filter((one) => ['serious', 'critical'].includes(one.impact))
    .map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => `${node.target.join(' ')} (${node.any.map((any) => any.message).join('; ')})`).slice(0, 4).join(' | ')}`);
  assert.deepEqual(serious, [], where);
}

for (const theme of ['light', 'dark']) {
  test(`${theme}: at rest, at work, with dialogs`, async () => {
    const page = await Driver.open(browser, server.url, { colorScheme: theme });
    assert.equal(await page.page.getAttribute('html', 'data-theme'), theme);
    await check(page, 'empty');
    await page.twoRegions();
    for (const fold of await page.page.locator('summary').all()) await fold.click();
    await page.card(0).getByRole('button', { name: 'Part of the picture' }).click();
    await check(page, 'all folds open, one region hidden');
    await page.card(0).getByRole('button', { name: 'Part of the picture' }).click();
    await page.card(0).getByRole('button', { name: 'More for this region' }).click();
    await check(page, 'menu');
    await page.page.keyboard.press('Escape');
    await page.page.fill('[data-key="steps"] input', '300');
    await page.page.click('#generate');
    await page.page.click('#generate');
    await page.page.waitForSelector('#queue .job.waiting');
    await check(page, 'at work');
    await page.page.click('#queue .job.waiting button');
    await page.page.click('#stop');
    await page.page.waitForSelector('#gallery .tile.failed');
    await page.page.waitForSelector('.notice');
    await check(page, 'stopped');
    await page.page.fill('[data-key="steps"] input', '3');
    await page.generate();
    await page.page.locator('#gallery .thumb-button').first().click();
    await check(page, 'large view');
    await page.page.keyboard.press('Escape');
    await page.page.click('#help');
    await check(page, 'shortcuts');
    await page.close();
  });
}

test('the theme can be chosen and is kept', async () => {
  const page = await Driver.open(browser, server.url, { colorScheme: 'light' });
  await page.page.click('#theme');
  assert.equal(await page.page.getAttribute('html', 'data-theme'), 'dark');
  await page.page.reload();
  await page.ready();
  assert.equal(await page.page.getAttribute('html', 'data-theme'), 'dark');
  await page.page.emulateMedia({ colorScheme: 'dark' });
  await page.page.click('#theme');
  assert.equal(await page.page.getAttribute('html', 'data-theme'), 'light');
  await page.close();
});

for (const [name, viewport] of [['tablet', { width: 1024, height: 768 }], ['tablet held upright', { width: 768, height: 1024 }]]) {
  test(`${name}: nothing is cut off`, async () => {
    const page = await Driver.open(browser, server.url, { viewport, hasTouch: true, isMobile: true });
    await page.twoRegions();
    await check(page, name);
    const out = await page.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(out <= 0, `${out} pixels stick out`);
    await page.page.locator('#generate').scrollIntoViewIfNeeded();
    assert.ok(await until(() => page.page.locator('#generate').isVisible(), 'the button'));
    await page.close();
  });
}
