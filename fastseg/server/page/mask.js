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
    this.made = null;
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

  /** Path of the mask in pixels of the image; columns with equal runs are one rectangle. */
  path() {
    if (this.made) return this.made;
    const path = new Path2D();
    const open = new Map();
    let box = [Infinity, Infinity, -Infinity, -Infinity];
    this.runs((x, top, bottom) => {
      const key = top * 65536 + bottom;
      const known = open.get(key);
      if (known && known.right === x) known.right = x + 1;
      else {
        if (known) path.rect(known.x, top, known.right - known.x, bottom - top);
        open.set(key, { x, right: x + 1, top, bottom });
      }
      box = [Math.min(box[0], x), Math.min(box[1], top), Math.max(box[2], x + 1), Math.max(box[3], bottom)];
    });
    for (const { x, right, top, bottom } of open.values()) path.rect(x, top, right - x, bottom - top);
    this.extent = box;
    this.made = path;
    return path;
  }
}
