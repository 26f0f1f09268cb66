// Masks as COCO run lengths, column by column: decoding, encoding, hit tests and drawing.

/** Decode COCO's compressed counts to run lengths. */
export function decode(text) {
  const counts = [];
  let value = 0;
  let shift = 0;
  for (let i = 0; i < text.length; i++) {
    const group = text.charCodeAt(i) - 48;
    value += (group & 31) * 2 ** shift;
    shift += 5;
    if (group & 32) continue;
    if (group & 16) value -= 2 ** shift;
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
    value = 0;
    shift = 0;
  }
  return counts;
}

export class Mask {
  constructor(segmentation, score = null) {
    [this.height, this.width] = segmentation.size;
    this.segmentation = segmentation;
    this.score = score;
    const counts = typeof segmentation.counts === "string" ? decode(segmentation.counts) : segmentation.counts;
    this.ends = new Float64Array(counts.length);
    let end = 0;
    let area = 0;
    counts.forEach((count, i) => {
      end += count;
      this.ends[i] = end;
      if (i % 2) area += count;
    });
    this.area = area;
    this.starts = null;
    this.extent = null;
  }

  static fromPixels(pixels, height, width, score) {
    const counts = [];
    let inside = 0;
    let count = 0;
    for (let x = 0; x < width; x++) {
      for (let i = x, y = 0; y < height; y++, i += width) {
        if (pixels[i] !== inside) {
          counts.push(count);
          count = 0;
          inside = pixels[i];
        }
        count++;
      }
    }
    counts.push(count);
    return new Mask({ size: [height, width], counts }, score);
  }

  /** Bytes of 0 and 1, row by row. */
  pixels() {
    const found = new Uint8Array(this.width * this.height);
    this.runs((x, top, bottom) => {
      for (let y = top, i = top * this.width + x; y < bottom; y++, i += this.width) found[i] = 1;
    });
    return found;
  }

  /** Call for every foreground run within a column. */
  runs(call) {
    const { ends, height } = this;
    for (let i = 1; i < ends.length; i += 2) {
      let start = ends[i - 1];
      while (start < ends[i]) {
        const x = Math.floor(start / height);
        const top = start - x * height;
        const bottom = Math.min(height, top + ends[i] - start);
        call(x, top, bottom);
        start += bottom - top;
      }
    }
  }

  /** Tell if a pixel belongs to the mask. */
  has(x, y) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return false;
    const place = Math.floor(x) * this.height + Math.floor(y);
    let low = 0;
    let high = this.ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] <= place) low = middle + 1;
      else high = middle;
    }
    return low % 2 === 1;
  }

  /** Corners of the mask's pixels, and where the runs of each column begin. */
  index() {
    if (this.starts) return;
    const { ends, width, height } = this;
    const starts = new Int32Array(width);
    let [left, top, right, bottom] = [width, height, 0, 0];
    let column = 0;
    for (let i = 1; i < ends.length; i += 2) {
      for (; column < width && column * height < ends[i]; column++) starts[column] = i;
      if (ends[i] === ends[i - 1]) continue;
      const [first, last] = [Math.floor(ends[i - 1] / height), Math.floor((ends[i] - 1) / height)];
      left = Math.min(left, first);
      right = Math.max(right, last + 1);
      top = first === last ? Math.min(top, ends[i - 1] - first * height) : 0;
      bottom = first === last ? Math.max(bottom, ends[i] - last * height) : height;
    }
    starts.fill(ends.length + 1, column);
    this.starts = starts;
    this.extent = [left, top, right, bottom];
  }

  /** Fill the mask's pixels of an image of 32-bit colours, of scale and place (dx, dy). */
  fill(pixels, wide, high, scale, dx, dy, colour) {
    this.index();
    const { ends, width, height, starts } = this;
    for (let column = 0; column < wide; column++) {
      const x = Math.floor((column + 0.5 - dx) / scale);
      if (x < 0 || x >= width) continue;
      const base = x * height;
      for (let i = starts[x]; i < ends.length && ends[i - 1] < base + height; i += 2) {
        const from = Math.max(0, Math.round((Math.max(ends[i - 1], base) - base) * scale + dy));
        const to = Math.min(high, Math.round((Math.min(ends[i], base + height) - base) * scale + dy));
        for (let y = from, at = from * wide + column; y < to; y++, at += wide) pixels[at] = colour;
      }
    }
  }

  /** Draw the mask on an empty canvas of scale and place. */
  draw(context, scale, dx, dy, colour) {
    const { width, height } = context.canvas;
    const image = context.createImageData(width, height);
    const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const packed = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    this.fill(new Uint32Array(image.data.buffer), width, height, scale, dx, dy, packed);
    context.putImageData(image, 0, 0);
  }
}
