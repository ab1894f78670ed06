// recall.test.mjs - pictures and files that are given to the page: Tessera's, ComfyUI's and A1111's words in them, masks, harm.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import zlib from 'node:zlib';
import { Driver } from './page_driver.mjs';
import { chunk, greyPng, startBrowser, startServer, textChunk, until } from './harness.mjs';

let server;
let browser;
before(async () => { [server, browser] = await Promise.all([startServer(), startBrowser()]); });
after(async () => {
  await browser?.close();
  await server?.stop();
});

const png = (texts) => ({ name: 'picture.png', mimeType: 'image/png', buffer: greyPng(32, 16, (x) => 8 * x, texts) });
const give = (page, file) => page.page.setInputFiles('#file', file);
const notices = (page) => page.page.locator('.notice').allTextContents();

/** Drops a file on an element, as a file manager does. */
async function drop(page, selector, file) {
  const transfer = await page.page.evaluateHandle(({ name, mimeType, bytes }) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], name, { type: mimeType }));
    return data;
  }, { name: file.name, mimeType: file.mimeType, bytes: [...file.buffer] });
  for (const type of ['dragenter', 'dragover', 'drop']) await page.page.dispatchEvent(selector, type, { dataTransfer: transfer });
}

test("a picture of `tessera generate` comes back with boxes and masks", async () => {
  writeFileSync(join(server.folder, 'mask.png'), greyPng(192, 128, (x, y) => (x > 100 && y < 64 ? 255 : x === 100 ? 77 : 0)));
  const picture = join(server.folder, 'made.png');
  const made = spawnSync(process.env.TESSERA || 'build/release/apps/tessera', ['generate', '--width', '192', '--height', '128', '--steps', '2', '--seed', '18446744073709551615',
    '--prompt', 'grass field', '--history', 'restart', '--region', 'box=0:0:25%:100%,prompt=a house,cfg=5,name=left',
    '--region', `mask=${join(server.folder, 'mask.png')},prompt=a tree,feather=3`, '--output', picture], { encoding: 'utf8' });
  assert.equal(made.status, 0, made.stderr);
  const page = await Driver.open(browser, server.url);
  await drop(page, '#stage', { name: 'made.png', mimeType: 'image/png', buffer: readFileSync(picture) });
  await page.page.waitForSelector('#regions > li:nth-child(2)');
  const scene = await page.scene();
  assert.equal(scene.history, 'restart');
  assert.equal(scene.steps, 2);
  assert.equal(await page.page.inputValue('#seed'), '18446744073709551615');
  assert.equal((await page.workflow())['1'].inputs.seed, '18446744073709551615');
  assert.equal(scene.regions[0].name, 'left');
  assert.equal(scene.regions[0].cfg, 5);
  assert.equal(scene.regions[1].feather, 3);
  const masks = await page.masks();
  assert.equal(masks[0].painted, 48 * 128);
  assert.deepEqual([masks[1].at(101, 3), masks[1].at(100, 3), masks[1].at(99, 3), masks[1].at(150, 80)], [255, 77, 0, 0]);
  await page.close();
});

const PARAMETERS = 'a red house, (sharp:1.2)\nsecond line\nNegative prompt: blurry\nSteps: 12, Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale: 6.5, Seed: 41, Size: 256x128, Model: other, Version: v1.9';

for (const form of ['tEXt', 'zTXt', 'iTXt']) {
  test(`A1111's parameters in ${form}`, async () => {
    const page = await Driver.open(browser, server.url);
    await give(page, png([textChunk(form, 'parameters', PARAMETERS)]));
    await until(async () => await page.page.inputValue('#base-prompt') === 'a red house, (sharp:1.2)\nsecond line', 'the prompt');
    const scene = await page.scene();
    assert.equal(scene.negative, 'blurry');
    assert.deepEqual([scene.steps, scene.sampler, scene.scheduler, scene.cfg, scene.width, scene.height], [12, 'dpmpp_2m_sde', 'karras', 6.5, 256, 128]);
    assert.equal(await page.page.inputValue('#seed'), '41');
    await page.close();
  });
}

const COMFY = {
  1: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'tessera-demo.safetensors' } },
  2: { class_type: 'CLIPTextEncode', inputs: { clip: ['1', 1], text: 'a park' } },
  3: { class_type: 'CLIPTextEncode', inputs: { clip: ['1', 1], text: 'a red dog' } },
  4: { class_type: 'CLIPTextEncode', inputs: { clip: ['1', 1], text: 'blurry' } },
  5: { class_type: 'ToBasicPipe', inputs: { model: ['1', 0], clip: ['1', 1], vae: ['1', 2], positive: ['2', 0], negative: ['4', 0] } },
  6: { class_type: 'ToBasicPipe', inputs: { model: ['1', 0], clip: ['1', 1], vae: ['1', 2], positive: ['3', 0], negative: ['4', 0] } },
  7: { class_type: 'KSamplerAdvancedProvider', inputs: { cfg: 7, sampler_name: 'euler', scheduler: 'normal', sigma_factor: 1, basic_pipe: ['5', 0] } },
  8: { class_type: 'KSamplerAdvancedProvider', inputs: { cfg: 9, sampler_name: 'dpmpp_2m', scheduler: 'karras', sigma_factor: 1, basic_pipe: ['6', 0] } },
  9: { class_type: 'LoadImageMask', inputs: { image: 'dog-mask.png', channel: 'red' } },
  10: { class_type: 'RegionalPrompt', inputs: { mask: ['9', 0], advanced_sampler: ['8', 0] } },
  11: { class_type: 'EmptyLatentImage', inputs: { width: 128, height: 128, batch_size: 1 } },
  12: { class_type: 'RegionalSampler', inputs: { seed: 5, seed_2nd: 0, seed_2nd_mode: 'ignore', steps: 9, base_only_steps: 2, denoise: 1, samples: ['11', 0], base_sampler: ['7', 0],
    regional_prompts: ['10', 0], overlap_factor: 10, restore_latent: true, additional_mode: 'ratio between', additional_sampler: 'AUTO', additional_sigma_ratio: 0.3 } },
  13: { class_type: 'VAEDecode', inputs: { samples: ['12', 0], vae: ['1', 2] } },
  14: { class_type: 'SaveImage', inputs: { images: ['13', 0], filename_prefix: 'region' } },
};

test("ComfyUI's regional workflow, in a picture and as a file, with its mask from the input folder", async () => {
  writeFileSync(join(server.folder, 'input', 'dog-mask.png'), greyPng(128, 128, (x) => (x < 40 ? 255 : 0)));
  for (const file of [png([textChunk('tEXt', 'prompt', JSON.stringify(COMFY))]), { name: 'w.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(COMFY)) }]) {
    const page = await Driver.open(browser, server.url);
    await give(page, file);
    await page.page.waitForSelector('#regions > li');
    const scene = await page.scene();
    assert.deepEqual([scene.prompt, scene.negative, scene.history, scene.steps, scene.overlap, scene.base_only_steps, scene.width], ['a park', 'blurry', 'restart', 9, 10, 2, 128]);
    assert.deepEqual([scene.regions[0].prompt, scene.regions[0].cfg, scene.regions[0].sampler, scene.regions[0].scheduler], ['a red dog', 9, 'dpmpp_2m', 'karras']);
    assert.equal((await page.masks())[0].painted, 40 * 128);
    await page.close();
  }
});

test('a mask is imported by button and by drop, scaled to the sheet', async () => {
  const page = await Driver.open(browser, server.url);
  await page.page.fill('#base-prompt', 'sea');
  await page.page.click('#add-region');
  const mask = { name: 'm.png', mimeType: 'image/png', buffer: greyPng(96, 64, (x) => (x < 48 ? 255 : 0)) };
  await page.card(0).locator('.card-head input[type=file]').setInputFiles(mask);
  await until(async () => (await page.scene()).regions.length === 1, 'the mask');
  const first = (await page.masks())[0];
  assert.deepEqual([first.width, first.height, first.painted], [192, 128, 96 * 128]);
  await page.page.click('#add-region');
  await drop(page, '#regions > li:nth-child(2)', { ...mask, buffer: greyPng(192, 128, (x, y) => (y === 7 ? 200 : 0)) });
  await until(async () => (await page.scene()).regions.length === 2, 'the second mask');
  const second = (await page.masks())[1];
  assert.deepEqual([second.at(5, 7), second.at(5, 8), second.painted], [200, 0, 192]);
  await page.close();
});

test('harmful and empty files change nothing and say so', async () => {
  const page = await Driver.open(browser, server.url);
  await page.page.fill('#base-prompt', 'kept');
  const bomb = chunk('zTXt', Buffer.concat([Buffer.from('parameters\0\0', 'latin1'), zlib.deflateSync(Buffer.alloc(80 << 20, 65))]));
  const files = [
    ['a text that unpacks to 80 MiB', png([bomb])],
    ['a scene of a million pixels a side', { name: 's.json', mimeType: 'application/json', buffer: Buffer.from('{"prompt":"x","width":1000000,"height":1000000,"regions":[]}') }],
    ['JSON that is no scene', { name: 'l.json', mimeType: 'application/json', buffer: Buffer.from('[1,2,3]') }],
    ['a mask that is no picture', { name: 'm.json', mimeType: 'application/json', buffer: Buffer.from('{"prompt":"x","width":64,"height":64,"regions":[{"prompt":"y","mask_data":"AAAA"}]}') }],
  ];
  for (const [what, file] of files) {
    const before0 = (await notices(page)).length;
    await give(page, file);
    await until(async () => (await notices(page)).length > before0, `a message for ${what}`);
    assert.equal(await page.page.inputValue('#base-prompt'), 'kept', what);
  }
  const cut = png([textChunk('tEXt', 'parameters', PARAMETERS)]);
  const damaged = Buffer.from(cut.buffer);
  damaged[60] ^= 1; // inside the text: its checksum no longer fits
  await give(page, { ...cut, buffer: damaged });
  await page.page.waitForSelector('#loose[open]');
  await page.page.keyboard.press('Escape');
  assert.equal(await page.page.inputValue('#base-prompt'), 'kept');
  await page.close();
});
