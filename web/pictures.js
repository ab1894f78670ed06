// pictures.js - picture files to pixels, through the browser's own decoders.

const MOST_PIXELS = 1 << 25;

/** {width, height, rgba} of a picture file. Throws when the browser cannot read it. */
export async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' })
    .catch(() => { throw new Error('this is no picture that the browser can read'); });
  try {
    if (bitmap.width * bitmap.height > MOST_PIXELS) throw new Error(`a picture of ${bitmap.width} x ${bitmap.height} is too large`);
    const canvas = document.createElement('canvas');
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return { width: bitmap.width, height: bitmap.height, rgba: context.getImageData(0, 0, bitmap.width, bitmap.height).data };
  } finally {
    bitmap.close();
  }
}
