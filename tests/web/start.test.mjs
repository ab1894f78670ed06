// start.test.mjs - painting that starts from a picture on the page: chosen or dropped, repainted as a whole or under a mask.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Driver } from './page_driver.mjs';
import { greyLevels, greyPng, startBrowser, startServer, until } from './harness.mjs';

let server;
let browser;
before(async () => { [server, browser] = await Promise.all([startServer(), startBrowser()]); });
after(async () => {
  await browser?.close();
  await server?.stop();
});

const room = { name: 'room.png', mimeType: 'image/png', buffer: greyPng(132, 100, (x, y) => (2 * x + y) % 256) };
const field = (page, key) => page.page.locator(`#more-settings [data-key="${key}"]`);
const lastJob = async () => {
  const entries = Object.values(await (await fetch(`${server.url}/history`)).json());
  const entry = entries[entries.length - 1];
  assert.equal(entry.status.status_str, 'success', JSON.stringify(entry.status.messages));
  return JSON.parse(entry.prompt[2]['1'].inputs.scene);
};

test('a chosen picture gives the sheet its size, and a region its mask; both come back', async () => {
  const page = await Driver.open(browser, server.url);
  await page.page.fill('#base-prompt', 'sea');
  await page.page.fill('[data-key="steps"] input', '2');
  await page.page.locator('#more-settings summary', { hasText: 'Start from a picture' }).click();
  assert.equal(await field(page, 'denoise').isVisible(), false);
  await field(page, 'init_image').locator('input[type=file]').setInputFiles(room);
  await until(async () => await page.page.inputValue('#width') === '128', 'the size of the picture in steps of 8');
  assert.equal(await page.page.inputValue('#height'), '96');
  await until(() => field(page, 'denoise').isVisible(), 'how much to repaint');
  assert.equal(await field(page, 'denoise').locator('input').inputValue(), '0.6');
  await until(async () => page.page.evaluate(() => document.getElementById('picture').width === 132), 'the picture on the sheet');
  assert.equal(await field(page, 'mask_channel').isVisible(), false);

  await page.page.click('#add-region');
  await page.prompt(0).fill('a house');
  await page.tool('r');
  await page.stroke([[0.5, 0], [1, 1]]);
  await page.card(0).locator('[aria-haspopup=menu]').click();
  await page.page.getByText('Repaint only here').click();
  await until(() => field(page, 'mask_channel').isVisible(), 'the settings of the mask');
  await page.generate();
  const sent = await lastJob();
  assert.equal(sent.init_image, 'room.png');
  assert.equal(sent.denoise, 0.6);
  const mask = greyLevels(sent.mask_data);
  assert.deepEqual([mask.width, mask.height, mask.at(30, 50), mask.at(100, 50)], [128, 96, 0, 255]);

  await page.page.click('#new-scene');
  await page.page.click('#ask-yes');
  assert.equal(await field(page, 'denoise').isVisible(), false);
  await page.page.click('#gallery .thumb-button');
  await page.page.click('#viewer-reopen');
  await page.page.waitForSelector('#regions > li');
  assert.equal(await field(page, 'init_image').locator('.file-name').textContent(), 'room.png');
  assert.equal(await field(page, 'mask').locator('.file-name').textContent(), 'Region 1.png');
  await field(page, 'init_image').locator('.icon-button').click();
  await page.generate();
  const later = await lastJob();
  for (const key of ['init_image', 'denoise', 'mask', 'mask_data']) assert.equal(later[key], undefined, key);
  await page.close();
});

test('a dropped picture without words can be what painting starts from', async () => {
  const page = await Driver.open(browser, server.url);
  await page.page.setInputFiles('#file', { ...room, name: 'other.png' });
  await page.page.click('#loose button[value=start]');
  await until(async () => (await field(page, 'init_image').locator('.file-name').textContent()) === 'room.png'
    || (await field(page, 'init_image').locator('.file-name').textContent()) === 'other.png', 'the name in the input folder');
  await until(async () => await page.page.inputValue('#width') === '128', 'its size');
  await page.close();
});
