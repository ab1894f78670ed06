// page_driver.mjs - the page as a person uses it: open, paint, read what it shows. Notes every error it reports.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { PATIENCE, greyLevels, until } from './harness.mjs';

export class Driver {
  constructor(page, url) {
    this.page = page;
    this.url = url;
    this.faults = [];
    page.setDefaultTimeout(PATIENCE);
    page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) this.faults.push(message.text()); });
    page.on('pageerror', (error) => this.faults.push(String(error)));
    page.on('request', (request) => {
      if (!request.url().startsWith(url) && !/^(blob|data):/.test(request.url())) this.faults.push(`asked ${request.url()}`);
    });
  }

  static async open(browser, url, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
    const driver = new Driver(await context.newPage(), url);
    await driver.load();
    return driver;
  }

  async load() {
    await this.page.goto(this.url);
    await this.ready();
  }

  async ready() {
    await this.page.waitForSelector('html[data-ready="true"]');
    await this.page.waitForSelector('#link[data-up="true"]');
  }

  async close() {
    await this.page.context().close();
    assert.deepEqual(this.faults, [], 'the page reported errors');
  }

  /** A point of the sheet, in shares of its sides, as a point of the window. */
  async at(x, y) {
    const box = await this.page.locator('#sheet').boundingBox();
    return [box.x + x * box.width, box.y + y * box.height];
  }

  async stroke(points, button = 'left') {
    const { mouse } = this.page;
    await mouse.move(...await this.at(...points[0]));
    await mouse.down({ button });
    for (const point of points.slice(1)) await mouse.move(...await this.at(...point), { steps: 5 });
    await mouse.up({ button });
  }

  async tool(key) {
    await this.page.locator('#stage').focus();
    await this.page.keyboard.press(key);
  }

  card(n) {
    return this.page.locator('#regions > li').nth(n);
  }

  prompt(n) {
    return this.card(n).locator('> textarea');
  }

  /** The workflow that the page would send, by its own button. */
  async workflow() {
    const [file] = await Promise.all([this.page.waitForEvent('download'), this.page.click('#save-workflow')]);
    return JSON.parse(readFileSync(await file.path(), 'utf8'));
  }

  async scene() {
    const workflow = await this.workflow();
    return JSON.parse(Object.values(workflow).find((node) => node.class_type === 'TesseraScene').inputs.scene);
  }

  async masks() {
    return (await this.scene()).regions.map((region) => greyLevels(region.mask_data));
  }

  /** What the sheet's picture looks like, as one number. */
  picture() {
    return this.page.evaluate(() => {
      const canvas = document.getElementById('picture');
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      let sum = 0;
      for (let i = 0; i < data.length; i++) sum = (sum * 31 + data[i]) >>> 0;
      return sum;
    });
  }

  pictures() {
    return this.page.locator('#gallery .thumb-button').count();
  }

  /** Generates and waits for one more picture. */
  async generate() {
    const before = await this.pictures();
    await this.page.click('#generate');
    await until(async () => await this.pictures() > before, 'a picture in the gallery');
  }

  /** Two regions as most tests need them: a painted blob on the left, a box on the right. */
  async twoRegions() {
    await this.page.fill('#base-prompt', 'grass field');
    await this.tool('b');
    await this.stroke([[0.15, 0.3], [0.4, 0.35], [0.35, 0.75], [0.15, 0.7], [0.15, 0.3]]);
    await this.tool('f');
    await this.page.mouse.click(...await this.at(0.26, 0.52));
    await this.prompt(0).fill('a house on grass field');
    await this.page.click('#add-region');
    await this.prompt(1).fill('a tree on grass field');
    await this.tool('r');
    await this.stroke([[0.55, 0.1], [0.9, 0.95]]);
  }
}
