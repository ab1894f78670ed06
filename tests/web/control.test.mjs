// control.test.mjs - control networks on the page: chosen from the server's folder, their picture taken along in the scene.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Driver } from './page_driver.mjs';
import { greyPng, startBrowser, startServer, until } from './harness.mjs';

const SOURCE = process.env.TESSERA_SOURCE || '../..';
const WRITE_NET = 'import sys; sys.path.insert(0, sys.argv[1]); import checkpoint_files as f, doc_files as d; '
  + 'f.write(sys.argv[2], d.control_net(f.below(f.golden("sd1")[0], "model.diffusion_model.")))';

let models;
let server;
let browser;
before(async () => {
  models = mkdtempSync(join(tmpdir(), 'tessera-models-'));
  for (const folder of ['checkpoints', 'controlnet']) mkdirSync(join(models, folder));
  symlinkSync(join(SOURCE, 'models/tessera-demo.safetensors'), join(models, 'checkpoints/demo.safetensors'));
  execFileSync('python3', ['-B', '-c', WRITE_NET, join(SOURCE, 'tests/cli'), join(models, 'controlnet/edges.safetensors')]);
  [server, browser] = await Promise.all([startServer(['--models', models]), startBrowser()]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
  rmSync(models, { recursive: true, force: true });
});

const picture = greyPng(64, 64, (x, y) => (4 * x + y) % 256);
const file = { name: 'room.png', mimeType: 'image/png', buffer: picture };
const lastScene = async () => {
  const entries = Object.values(await (await fetch(`${server.url}/history`)).json());
  const entry = entries[entries.length - 1];
  assert.equal(entry.status.status_str, 'success', JSON.stringify(entry.status.messages));
  return JSON.parse(entry.prompt[2]['1'].inputs.scene);
};

test('a control network for the picture and one for a region, painted, opened again, left out', async () => {
  const page = await Driver.open(browser, server.url);
  await page.twoRegions();
  await page.page.fill('[data-key="steps"] input', '2');
  const control = page.page.locator('#more-settings [data-key="control"] select');
  await page.page.locator('#more-settings summary', { hasText: 'Control' }).click();
  const strength = page.page.locator('#more-settings [data-key="control_strength"] input');
  assert.equal(await strength.isVisible(), false, 'nothing to set without a network');
  await control.selectOption('edges.safetensors');
  await page.page.locator('#more-settings [data-key="control_image"] input[type=file]').setInputFiles(file);
  await until(() => page.page.locator('#more-settings [data-key="control_image"] .small-picture').isVisible(), 'the small picture');
  await strength.fill('0.5;x');
  assert.match(await page.page.locator('#more-settings [data-key="control_strength"] .field-error').textContent(), /number from 0 to 10/);
  await strength.fill('0.5');
  await page.card(1).locator('summary').click();
  await page.card(1).locator('[data-key="control"] select').selectOption('edges.safetensors');
  await page.card(1).locator('[data-key="control_image"] input[type=file]').setInputFiles({ ...file, name: 'tree.png' });
  await page.card(1).locator('[data-key="control_preprocess"] select').selectOption('canny');
  await page.page.click('#generate');
  await until(async () => await page.pictures() === 1, 'the picture');
  const sent = await lastScene();
  assert.equal(sent.control, 'edges.safetensors');
  assert.equal(sent.control_strength, 0.5);
  assert.equal(sent.control_image_data, picture.toString('base64'));
  assert.deepEqual([sent.regions[1].control, sent.regions[1].control_image, sent.regions[1].control_preprocess],
    ['edges.safetensors', 'tree.png', 'canny']);

  await page.page.click('#new-scene');
  await page.page.click('#ask-yes');
  await page.page.click('#gallery .thumb-button');
  await page.page.click('#viewer-reopen');
  await page.page.waitForSelector('#regions > li:nth-child(2)');
  assert.equal(await control.inputValue(), 'edges.safetensors');
  assert.match(await page.page.locator('#more-settings [data-key="control_image"] .file-name').textContent(), /room\.png/);
  await control.selectOption('');
  await page.page.click('#generate');
  await until(async () => await page.pictures() === 2, 'the second picture');
  const later = await lastScene();
  assert.deepEqual(Object.keys(later).filter((key) => key.startsWith('control')), []);
  assert.equal(later.regions[1].control, 'edges.safetensors');
  await page.close();
});

test('a network without a picture is told in one line; a file too large is refused', async () => {
  const page = await Driver.open(browser, server.url);
  await page.page.fill('#base-prompt', 'sea');
  await page.page.locator('#more-settings summary', { hasText: 'Control' }).click();
  await page.page.locator('#more-settings [data-key="control"] select').selectOption('edges.safetensors');
  const choose = page.page.locator('#more-settings [data-key="control_image"]');
  await choose.locator('input[type=file]').setInputFiles({ ...file, buffer: Buffer.alloc(5 << 20) });
  assert.match(await choose.locator('.field-error').textContent(), /larger than 4 MiB/);
  await page.page.click('#generate');
  await until(async () => /control needs control_image/.test(await page.page.textContent('body')), 'the refusal');
  page.faults = page.faults.filter((text) => !text.includes('400'));
  await page.close();
});
