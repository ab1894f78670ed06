// page.test.mjs - the page in a real browser against a real server and the model that ships with Tessera.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Driver } from './page_driver.mjs';
import { startBrowser, startServer, until } from './harness.mjs';

const MODEL = join(process.env.TESSERA_SOURCE || '../..', 'models/tessera-demo.safetensors');

let server;
let browser;
before(async () => { [server, browser] = await Promise.all([startServer(), startBrowser()]); });
after(async () => {
  await browser?.close();
  await server?.stop();
});

const api = async (path, options) => (await fetch(server.url + path, options)).json();

test('paints two regions, watches the picture grow, opens it again with its regions', async () => {
  const page = await Driver.open(browser, server.url);
  await page.twoRegions();
  await page.card(1).locator('summary').click();
  await page.card(1).locator('[data-key="feather"] input').fill('6');
  await page.card(1).locator('[data-key="sampler"] select').selectOption('dpmpp_2m');
  const painted = await page.masks();
  assert.equal(painted.length, 2);
  assert.equal(painted[0].at(Math.round(0.26 * 192), Math.round(0.52 * 128)), 255, 'the fill reached the middle');
  assert.equal(painted[1].at(140, 64), 255);
  assert.equal(painted[1].at(80, 64), 0);

  const seen = new Set();
  const words = new Set();
  await page.page.fill('[data-key="steps"] input', '30');
  await page.page.click('#generate');
  await until(async () => {
    seen.add(await page.picture());
    words.add(await page.page.textContent('#progress-words'));
    return await page.pictures() === 1;
  }, 'the picture');
  assert.ok(seen.size >= 4, `the sheet showed ${seen.size} different pictures`);
  assert.ok([...words].some((text) => /^Step \d+ of 30 · .* left$/.test(text)), [...words].join('|'));

  const entry = Object.values(await api('/history'))[0];
  const sent = JSON.parse(entry.prompt[2]['1'].inputs.scene);
  assert.deepEqual(sent.regions.map((region) => region.prompt), ['a house on grass field', 'a tree on grass field']);
  assert.equal(sent.regions[1].sampler, 'dpmpp_2m');
  assert.equal(sent.steps, 30);

  await page.page.click('#new-scene');
  await page.page.click('#ask-yes');
  assert.equal(await page.page.locator('#regions > li').count(), 0);
  await page.page.click('#gallery .thumb-button');
  await page.page.click('#viewer-reopen');
  await page.page.waitForSelector('#regions > li:nth-child(2)');
  assert.equal(await page.page.inputValue('#base-prompt'), 'grass field');
  assert.equal(await page.prompt(1).inputValue(), 'a tree on grass field');
  assert.equal(await page.card(1).locator('[data-key="feather"] input').inputValue(), '6');
  const again = await page.masks();
  again.forEach((mask, i) => assert.ok(mask.levels.equals(painted[i].levels), `mask ${i + 1} is the same in every pixel`));
  const tags = await page.page.locator('#tags .tag').allTextContents();
  assert.deepEqual(tags, ['1', '2']);
  await page.close();
});

test('a reload in the middle finds the scene and the running job; cancelling ends it', async () => {
  const page = await Driver.open(browser, server.url);
  await page.twoRegions();
  await page.page.fill('[data-key="steps"] input', '400');
  const painted = await page.masks();
  await page.page.click('#generate');
  await until(async () => /^Step [2-9]/.test(await page.page.textContent('#progress-words')), 'progress');
  await page.page.click('#generate'); // a second one waits
  await page.page.waitForSelector('#queue .job.waiting');
  await page.page.waitForTimeout(600); // the scene is kept a moment after the last change
  await page.page.reload();
  await page.ready();
  assert.equal(await page.page.locator('#queue .job').count(), 2);
  await until(async () => /^Step \d+ of 400/.test(await page.page.textContent('#progress-words')), 'progress after the reload');
  const again = await page.masks();
  again.forEach((mask, i) => assert.ok(mask.levels.equals(painted[i].levels), `mask ${i + 1} survived`));
  assert.equal(await page.prompt(0).inputValue(), 'a house on grass field');
  await until(async () => page.page.locator('#queue .job img').first().isVisible(), 'a preview in the queue');

  const waiting = await page.page.locator('#queue .job.waiting').getAttribute('data-id');
  await page.page.click('#queue .job.waiting button');
  await until(async () => await page.page.locator('#queue .job').count() === 1, 'the waiting job gone');
  assert.deepEqual(await api(`/history/${waiting}`), {}, 'it never ran');
  const running = await page.page.locator('#queue .job').getAttribute('data-id');
  await page.page.click('#stop');
  await until(async () => await page.page.locator('#queue .job').count() === 0, 'the running job gone');
  const entry = (await api(`/history/${running}`))[running];
  assert.equal(entry.status.status_str, 'error');
  assert.ok(entry.status.messages.some(([event]) => event === 'execution_interrupted'));
  await page.page.waitForSelector('#gallery .tile.failed');
  await page.close();
});

test('two tabs each follow their own job', async () => {
  const first = await Driver.open(browser, server.url);
  const second = new Driver(await first.page.context().newPage(), server.url);
  await second.load();
  for (const tab of [first, second]) await tab.page.fill('#base-prompt', 'a house on grass field');
  await first.page.fill('[data-key="steps"] input', '400');
  await first.page.click('#generate');
  await until(async () => /^Step \d+ of 400/.test(await first.page.textContent('#progress-words')), 'progress in the older tab');
  await first.page.reload();
  await first.ready();
  await until(async () => /^Step \d+ of 400/.test(await first.page.textContent('#progress-words')), 'progress in it after a reload');
  await until(async () => await second.page.locator('#queue .job').count() === 1, 'the job in the other tab');
  await first.page.click('#stop');
  for (const tab of [first, second]) await until(async () => await tab.page.locator('#queue .job').count() === 0, 'an empty queue in both');
  assert.deepEqual(second.faults, []);
  await first.close();
});

test('brush, eraser, fill, box, undo and redo change the mask as they should', async () => {
  const page = await Driver.open(browser, server.url);
  const painted = async () => (await page.masks())[0]?.painted ?? 0;
  await page.page.fill('#base-prompt', 'sea');
  await page.tool('r');
  await page.stroke([[0.25, 0.25], [0.75, 0.75]]);
  const box = await painted();
  assert.equal(box, 96 * 64);
  await page.tool('e');
  await page.stroke([[0.3, 0.5], [0.7, 0.5]]);
  const erased = await painted();
  assert.ok(erased < box - 500, `${erased} of ${box}`);
  await page.tool('b');
  await page.stroke([[0.5, 0.5], [0.5, 0.5]]);
  const dotted = await painted();
  assert.ok(dotted > erased + 300, `${dotted} after ${erased}`);
  await page.tool('f');
  await page.page.mouse.click(...await page.at(0.05, 0.05));
  assert.ok(await painted() > 192 * 128 - box, 'the outside is filled, the hole is not');
  await page.page.keyboard.press('Control+z');
  assert.equal(await painted(), dotted);
  await page.page.keyboard.press('Control+z');
  await page.page.keyboard.press('Control+z');
  assert.equal(await painted(), box);
  await page.page.keyboard.press('Control+y');
  assert.equal(await painted(), erased);
  await page.page.keyboard.press('Control+Shift+z');
  assert.equal(await painted(), dotted);
  await page.page.fill('#width', '384');
  await page.page.locator('#width').press('Enter');
  const wide = (await page.masks())[0];
  assert.deepEqual([wide.width, wide.height], [384, 128]);
  assert.ok(Math.abs(wide.painted - 2 * dotted) < 400, `${wide.painted} after ${dotted}`);
  await page.close();
});

test('regions are named, hidden, moved, copied and deleted', async () => {
  const page = await Driver.open(browser, server.url);
  await page.twoRegions();
  await page.card(0).locator('.name').fill('house');
  await page.card(1).locator('.name').fill('tree');
  await page.card(1).getByRole('button', { name: 'Move up' }).click();
  assert.deepEqual((await page.scene()).regions.map((region) => region.name), ['tree', 'house']);
  await page.card(0).getByRole('button', { name: 'Part of the picture' }).click();
  assert.deepEqual((await page.scene()).regions.map((region) => region.name), ['house']);
  await page.card(0).getByRole('button', { name: 'Part of the picture' }).click();
  await page.card(0).getByRole('button', { name: 'More for this region' }).click();
  await page.page.getByRole('button', { name: 'Duplicate region' }).click();
  await page.card(2).getByRole('button', { name: 'More for this region' }).click();
  await page.page.getByRole('button', { name: 'Delete region' }).click();
  assert.deepEqual((await page.scene()).regions.map((region) => region.name), ['tree', 'tree']);
  await page.page.click('#undo');
  await page.page.click('#undo');
  assert.deepEqual((await page.scene()).regions.map((region) => region.name), ['tree', 'house']);
  await page.close();
});

test('errors appear at the region or the setting they speak of', async () => {
  const page = await Driver.open(browser, server.url);
  await page.page.click('#generate');
  assert.match(await page.page.textContent('[data-fault="prompt"]'), /what to paint/i);
  await page.twoRegions();
  await page.prompt(0).fill('');
  await page.page.click('#generate');
  assert.match(await page.card(0).locator('> .field-error').textContent(), /what to paint here/i);
  await page.prompt(0).fill('a house');
  await page.card(1).locator('summary').click();
  await page.card(1).locator('[data-key="start"] input').fill('0.8');
  await page.card(1).locator('[data-key="end"] input').fill('0.2');
  await page.page.click('#generate');
  const error = await until(async () => {
    const texts = await page.card(1).locator('.field-error:visible').allTextContents();
    return texts[0];
  }, 'the error of region 2');
  assert.match(error, /start|end/i);
  await page.page.fill('[data-key="steps"] input', '0');
  assert.match(await page.page.locator('[data-key="steps"] .field-error').textContent(), /from 1 to/);
  const refused = page.faults.filter((text) => /status of 400/.test(text));
  page.faults = page.faults.filter((text) => !refused.includes(text)); // the browser notes every answer of 400
  await page.close();
});

test('models and adapters of the folders are offered, and a bad one is told at its field', async () => {
  const models = mkdtempSync(join(tmpdir(), 'tessera-models-'));
  mkdirSync(join(models, 'checkpoints'));
  mkdirSync(join(models, 'loras'));
  for (const name of ['one.safetensors', 'two.safetensors']) symlinkSync(MODEL, join(models, 'checkpoints', name));
  writeFileSync(join(models, 'loras', 'broken.safetensors'), 'no adapter');
  const other = await startServer(['--models', models]);
  try {
    const page = await Driver.open(browser, other.url);
    assert.deepEqual(await page.page.locator('#model option').allTextContents(), ['one.safetensors', 'two.safetensors']);
    await page.page.selectOption('#model', 'two.safetensors');
    await page.page.fill('#width', '192');
    await page.page.fill('#height', '128');
    await page.page.locator('#height').press('Enter');
    await page.twoRegions();
    assert.equal((await page.workflow())['1'].inputs.ckpt_name, 'two.safetensors');
    await page.card(1).locator('summary').click();
    await page.card(1).locator('[data-key="lora"] select').selectOption('broken.safetensors');
    assert.equal((await page.scene()).regions[1].lora, 'broken.safetensors:1');
    await page.card(1).locator('[data-key="model"] select').selectOption('one.safetensors');
    assert.equal((await page.scene()).regions[1].model, 'one.safetensors');
    await page.page.click('#generate');
    await until(async () => (await page.card(1).locator('.field-error:visible').allTextContents()).join('') || (await page.page.locator('.notice.error').allTextContents()).join(''), 'an error');
    assert.match((await page.card(1).locator('.field-error:visible').allTextContents()).join(''), /broken/);
    page.faults = page.faults.filter((text) => !/status of 400/.test(text));
    await page.close();
  } finally {
    await other.stop();
    rmSync(models, { recursive: true });
  }
});

test('works by keyboard alone', async () => {
  const page = await Driver.open(browser, server.url);
  const { keyboard } = page.page;
  const focused = () => page.page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute('aria-label'));
  const press = async (key, times = 1) => { for (let i = 0; i < times; i++) await keyboard.press(key); };
  await press('Tab');
  assert.equal(await focused(), null, 'a link leads past the bar');
  await press('Enter');
  await until(async () => await focused() === 'base-prompt', 'the prompt');
  await keyboard.type('grass field');
  await press('Escape');
  assert.equal(await focused(), 'stage');
  await press('n');
  await keyboard.type('a house on grass field');
  await press('Escape');
  await press('r');
  await press('ArrowLeft');
  await press('Shift+ArrowLeft', 5);
  await press('Enter');
  await press('Shift+ArrowRight', 4);
  await press('Shift+ArrowDown', 3);
  await press('Enter');
  await press('b');
  await press(']', 2);
  await press('Enter');
  await press('ArrowUp', 3);
  await press('Enter');
  await press('?');
  assert.ok(await page.page.locator('#keys').isVisible());
  await press('Escape');
  await press('Control+Enter');
  await until(async () => (await page.pictures()) > 0 && (await page.page.locator('#queue .job').count()) === 0, 'the picture');
  const mask = (await page.masks())[0];
  assert.ok(mask.painted > 64 * 48, `${mask.painted} pixels`);
  await page.close();
});

test('fingers paint, two of them move and zoom', async () => {
  const page = await Driver.open(browser, server.url, { viewport: { width: 1024, height: 768 }, hasTouch: true, isMobile: true });
  const touch = await page.page.context().newCDPSession(page.page);
  const send = async (type, points) => touch.send('Input.dispatchTouchEvent', { type,
    touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  await page.page.fill('#base-prompt', 'sea');
  const [from, to] = [await page.at(0.3, 0.5), await page.at(0.7, 0.5)];
  await send('touchStart', [from]);
  for (let i = 1; i <= 8; i++) await send('touchMove', [[from[0] + (to[0] - from[0]) * i / 8, from[1]]]);
  await send('touchEnd', []);
  const painted = (await page.masks())[0].painted;
  assert.ok(painted > 76 * 20, `${painted} pixels`);
  const before0 = await page.page.textContent('#zoom-value');
  const [a, b] = [await page.at(0.4, 0.5), await page.at(0.6, 0.5)];
  await send('touchStart', [a]);
  await send('touchStart', [a, b]);
  for (let i = 1; i <= 6; i++) await send('touchMove', [[a[0] - 12 * i, a[1]], [b[0] + 12 * i, b[1]]]);
  await send('touchEnd', []);
  assert.notEqual(await page.page.textContent('#zoom-value'), before0);
  assert.equal((await page.masks())[0].painted, painted, 'zooming painted nothing');
  const wide = await page.page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
  assert.ok(wide, 'nothing sticks out sideways');
  await page.close();
});

test('the page is served as it should be', async () => {
  const first = await fetch(server.url);
  assert.equal(first.headers.get('content-type'), 'text/html; charset=utf-8');
  const policy = first.headers.get('content-security-policy');
  for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"]) assert.ok(policy.includes(part), part);
  assert.ok(!policy.includes('unsafe'));
  const html = await first.text();
  assert.ok(!/<script(?![^>]*src)|\son\w+=|style=/.test(html), 'no script or style inside the page');
  for (const path of [...html.matchAll(/(?:src|href)="(page\/[^"]+)"/g)].map((match) => match[1])) {
    const file = await fetch(`${server.url}/${path}`);
    assert.equal(file.status, 200, path);
    const same = await fetch(`${server.url}/${path}`, { headers: { 'If-None-Match': file.headers.get('etag') } });
    assert.equal(same.status, 304, path);
  }
  for (const path of ['/page/', '/page/none.js', '/page/../web/app.js', '/page/%2e%2e/LICENSE', '/page/app.js/x']) {
    const file = await fetch(server.url + path);
    assert.notEqual(file.status, 200, path);
  }
});
