// clients.test.mjs - three client libraries from npm, as they are: each submits a regional workflow, follows it, fetches the
// picture, cancels a job, and uploads a picture and a mask.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { greyPng, startServer, until } from './harness.mjs';

const require = createRequire(import.meta.url);
const MASK = 'left.png';
let server;
let host;
before(async () => {
  server = await startServer();
  host = server.url.replace('http://', '');
});
after(() => server?.stop());

/** The reference's example of the regional nodes (a base and one region), with the shipped model. */
function workflow(steps, seed, mask = MASK) {
  const pipe = (text) => ({ class_type: 'ToBasicPipe', inputs: { model: ['1', 0], clip: ['1', 1], vae: ['1', 2], positive: [text, 0], negative: ['4', 0] } });
  const text = (words) => ({ class_type: 'CLIPTextEncode', inputs: { clip: ['1', 1], text: words } });
  const provider = (cfg, sampler, from) => ({ class_type: 'KSamplerAdvancedProvider', inputs: { cfg, sampler_name: sampler, scheduler: 'normal', sigma_factor: 1, basic_pipe: [from, 0] } });
  return {
    1: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'tessera-demo.safetensors' } },
    2: text('grass field'), 3: text('a house on grass field'), 4: text(''),
    5: pipe('2'), 6: pipe('3'), 7: provider(4, 'euler', '5'), 8: provider(5, 'dpmpp_2m', '6'),
    9: { class_type: 'LoadImageMask', inputs: { image: mask, channel: 'red' } },
    10: { class_type: 'RegionalPrompt', inputs: { mask: ['9', 0], advanced_sampler: ['8', 0] } },
    11: { class_type: 'EmptyLatentImage', inputs: { width: 128, height: 128, batch_size: 1 } },
    12: { class_type: 'RegionalSampler', inputs: { seed, seed_2nd: 0, seed_2nd_mode: 'ignore', steps, base_only_steps: 2, denoise: 1, samples: ['11', 0], base_sampler: ['7', 0],
      regional_prompts: ['10', 0], overlap_factor: 10, restore_latent: true, additional_mode: 'ratio between', additional_sampler: 'AUTO', additional_sigma_ratio: 0.3 } },
    13: { class_type: 'VAEDecode', inputs: { samples: ['12', 0], vae: ['1', 2] } },
    14: { class_type: 'SaveImage', inputs: { images: ['13', 0], filename_prefix: 'client' } },
  };
}

const maskFile = () => greyPng(128, 128, (x) => (x < 64 ? 255 : 0));
const bytesOf = async (blob) => Buffer.from(await blob.arrayBuffer());
const isPicture = (bytes) => {
  assert.equal(bytes.subarray(1, 4).toString('latin1'), 'PNG');
  assert.deepEqual([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [128, 128]);
  assert.ok(bytes.includes('RegionalSampler'), 'the picture carries its workflow');
};
const history = async (id) => (await (await fetch(`${server.url}/history/${id}`)).json())[id];
const interrupted = async (id) => {
  const entry = await until(() => history(id), 'the cancelled job in the history');
  assert.ok(entry.status.messages.some(([event]) => event === 'execution_interrupted'), JSON.stringify(entry.status));
};
const runs = (id) => until(async () => {
  const queue = await (await fetch(`${server.url}/queue`)).json();
  return queue.queue_running.some((row) => row[1] === id);
}, 'the job running');
const uploaded = (name) => assert.ok(existsSync(join(server.folder, 'input', name)), `input/${name}`);

test('comfy-ui-client', async () => {
  const { ComfyUIClient } = await import('comfy-ui-client');
  const client = new ComfyUIClient(host, randomUUID());
  await client.connect();
  const image = await client.uploadImage(maskFile(), MASK, true);
  assert.deepEqual(image, { name: MASK, subfolder: '', type: 'input' });
  uploaded(MASK);
  const mask = await client.uploadMask(greyPng(128, 128, () => 90), 'masked.png', { filename: MASK, type: 'input', subfolder: '' }, true);
  uploaded(mask.name);

  const steps = [];
  client.ws.on('message', (data, binary) => {
    const message = binary ? {} : JSON.parse(data);
    if (message.type === 'progress') steps.push([message.data.value, message.data.max]);
  });
  const images = await client.getImages(workflow(6, 1));
  isPicture(await bytesOf(images['14'][0].blob));
  assert.ok(steps.length >= 4 && steps.every(([value, max]) => value <= max), JSON.stringify(steps));
  assert.deepEqual(steps.at(-1)[0], steps.at(-1)[1]);

  const { prompt_id: id } = await client.queuePrompt(workflow(2000, 2));
  await runs(id);
  // It reads ComfyUI's empty answer as JSON, and so complains of an interrupt that was carried out.
  await client.interrupt().catch((error) => assert.ok(error instanceof SyntaxError, String(error)));
  await interrupted(id);
  await client.disconnect();
});

test('@saintno/comfyui-sdk', async () => {
  const { CallWrapper, ComfyApi, PromptBuilder } = await import('@saintno/comfyui-sdk');
  const client = new ComfyApi(server.url, randomUUID());
  await client.init().waitForReady();
  const image = await client.uploadImage(maskFile(), MASK, { override: true });
  assert.equal(image.info.filename, MASK);
  const mask = await client.uploadMask(greyPng(128, 128, () => 90), image.info);
  assert.ok(mask, 'the mask was taken');
  uploaded(mask.info.filename);
  assert.ok((await client.getCheckpoints()).includes('tessera-demo.safetensors'));

  const builder = (steps, seed) => new PromptBuilder(workflow(steps, seed), ['seed'], ['picture']).setInputNode('seed', '12.inputs.seed').setOutputNode('picture', '14');
  const steps = [];
  let previews = 0;
  const done = await new CallWrapper(client, builder(12, 0).input('seed', 3)).onProgress((info) => steps.push(info.value)).onPreview(() => { previews++; })
    .onFailed((error) => { throw error; }).run();
  assert.ok(done && done.picture.images.length === 1, JSON.stringify(done));
  isPicture(await bytesOf(await client.getImage(done.picture.images[0])));
  assert.ok(steps.length >= 4, JSON.stringify(steps));
  assert.ok(previews >= 1, 'previews came');

  let id = '';
  let failure = '';
  const ended = new CallWrapper(client, builder(2000, 0).input('seed', 4)).onPending((promptId) => { id = promptId; }).onFailed((error) => { failure = error.name; }).run();
  await until(() => id, 'the job sent');
  await runs(id);
  await new Promise((resolve) => { setTimeout(resolve, 500); }); // the library listens from the first `executing` on
  await client.interrupt();
  assert.equal(await ended, false);
  assert.equal(failure, 'ExecutionInterruptedError');
  await interrupted(id);
  client.destroy();
});

test('@stable-canvas/comfyui-client', async () => {
  const { Client } = await import('@stable-canvas/comfyui-client');
  const WebSocket = require('ws');
  const client = new Client({ api_host: host, clientId: randomUUID(), WebSocket, fetch });
  await client.connect();
  const form = new FormData();
  form.append('image', new Blob([maskFile()]), MASK);
  form.append('overwrite', 'true');
  assert.equal((await (await client.fetchApi('/upload/image', { method: 'POST', body: form })).json()).name, MASK);
  const second = new FormData();
  second.append('image', new Blob([greyPng(128, 128, () => 90)]), 'clip.png');
  second.append('original_ref', JSON.stringify({ filename: MASK, type: 'input', subfolder: '' }));
  const mask = await (await client.fetchApi('/upload/mask', { method: 'POST', body: second })).json();
  uploaded(mask.name);

  const steps = [];
  const output = await client.enqueue(workflow(8, 5), { progress: (info) => steps.push(info.value), disable_random_seed: true });
  const url = output.images.find((one) => one.type === 'url');
  assert.ok(url, JSON.stringify(output.images.map((one) => one.type)));
  isPicture(await bytesOf(await (await fetch(url.data)).blob()));
  assert.ok(steps.length >= 4, JSON.stringify(steps));

  const { prompt_id: id } = await client._enqueue_prompt(workflow(2000, 6));
  const waiting = await client._enqueue_prompt(workflow(2000, 7));
  await runs(id);
  await client.deleteItem('queue', waiting.prompt_id);
  await client.interrupt(id);
  await interrupted(id);
  assert.equal(await history(waiting.prompt_id), undefined);
  await until(async () => (await client.getQueue()).Running.length === 0, 'an empty queue');
  client.disconnect();
});

test('the packages are unchanged', () => {
  const lock = JSON.parse(readFileSync(new URL('./package-lock.json', import.meta.url), 'utf8'));
  for (const name of ['comfy-ui-client', '@saintno/comfyui-sdk', '@stable-canvas/comfyui-client']) {
    const entry = lock.packages[`node_modules/${name}`];
    assert.ok(entry.integrity.startsWith('sha512-'), name);
    assert.equal(JSON.parse(readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url), 'utf8')).version, entry.version);
  }
});
