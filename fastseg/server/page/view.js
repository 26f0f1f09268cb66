// The canvas: the image with its masks and prompts, panned and zoomed.

const CLEAR = 0.42;
const PREVIEW = 1024;
const SMALLEST = 0.02;

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.bitmap = null;
    this.preview = null;
    this.still = null;
    this.key = null;
    this.size = [1, 1];
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.scene = () => ({});
    this.asked = false;
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  /** Show an image of height and width. */
  show(bitmap, height, width, keep = false) {
    this.bitmap = bitmap;
    this.size = [height, width];
    this.preview = this.reduced(bitmap);
    if (keep) this.draw();
    else this.fit();
  }

  /** A small copy of a large image, for thumbnails. */
  reduced(bitmap) {
    const scale = Math.min(1, PREVIEW / Math.max(bitmap.width, bitmap.height));
    if (scale === 1) return bitmap;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [Math.round(bitmap.width * scale), Math.round(bitmap.height * scale)];
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    this.fit();
  }

  fit() {
    const [height, width] = this.size;
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    // While the window changes its layout, the stage can be smaller than its margins.
    this.scale = Math.max(SMALLEST, Math.min((clientWidth - 16) / width, (clientHeight - 16) / height));
    this.x = (clientWidth - width * this.scale) / 2;
    this.y = (clientHeight - height * this.scale) / 2;
    this.draw();
  }

  zoom(factor, x, y) {
    const scale = Math.min(40, Math.max(SMALLEST, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.draw();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.draw();
  }

  /** Place of an event in pixels of the image. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left - this.x) / this.scale, (event.clientY - box.top - this.y) / this.scale];
  }

  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    const { context, canvas } = this;
    const ratio = devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.bitmap) return;
    const transform = [this.scale * ratio, 0, 0, this.scale * ratio, this.x * ratio, this.y * ratio];
    const scene = this.scene();
    this.drawStill(scene.still ?? [], transform);
    for (const one of scene.masks ?? []) this.mask(context, one, transform);
    context.setTransform(...transform);
    if (scene.trail) this.trail(scene.trail);
    this.prompts(scene);
    performance.mark("fastseg-painted");
  }

  /** Draw the image and the masks that stay as they are, anew only where something changed. */
  drawStill(masks, transform) {
    const { canvas, context } = this;
    const key = [this.bitmap, canvas.width, canvas.height, ...transform, ...masks.flatMap(({ mask, colour, strong }) => [mask, colour, strong])];
    const same = this.key && key.length === this.key.length && key.every((part, i) => part === this.key[i]);
    if (!same) {
      this.key = key;
      this.still ??= document.createElement("canvas");
      [this.still.width, this.still.height] = [canvas.width, canvas.height];
      const own = this.still.getContext("2d");
      own.setTransform(...transform);
      own.imageSmoothingEnabled = this.scale < 3;
      own.drawImage(this.bitmap, 0, 0, this.size[1], this.size[0]);
      for (const one of masks) this.mask(own, one, transform);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.still, 0, 0);
  }

  /** Fill a mask, and draw its outline two pixels of the screen wide, about its box alone. */
  mask(target, { mask, colour, strong }, transform) {
    if (!mask.area) return;
    mask.index();
    const [scale, , , , dx, dy] = transform;
    const wide = (strong ? 2 : 1.3) * (devicePixelRatio || 1);
    const [x0, y0, x1, y1] = mask.extent;
    const { width, height } = this.canvas;
    const left = Math.max(0, Math.floor(x0 * scale + dx - wide - 1));
    const top = Math.max(0, Math.floor(y0 * scale + dy - wide - 1));
    const right = Math.min(width, Math.ceil(x1 * scale + dx + wide + 1));
    const bottom = Math.min(height, Math.ceil(y1 * scale + dy + wide + 1));
    if (right <= left || bottom <= top) return;
    const layer = this.sheet("layer", right - left, bottom - top);
    mask.draw(layer, scale, dx - left, dy - top, colour);
    target.setTransform(1, 0, 0, 1, 0, 0);
    target.globalAlpha = strong ? CLEAR + 0.15 : CLEAR;
    target.drawImage(layer.canvas, left, top);
    // The outline is the mask moved about, without the mask itself.
    const outline = this.sheet("outline", right - left, bottom - top);
    for (let turn = 0; turn < 8; turn++) {
      outline.drawImage(layer.canvas, wide * Math.cos((turn * Math.PI) / 4), wide * Math.sin((turn * Math.PI) / 4));
    }
    outline.globalCompositeOperation = "destination-out";
    outline.drawImage(layer.canvas, 0, 0);
    target.globalAlpha = 1;
    target.drawImage(outline.canvas, left, top);
  }

  /** An empty canvas of a size. */
  sheet(name, width, height) {
    const canvas = (this[name] ??= document.createElement("canvas"));
    [canvas.width, canvas.height] = [width, height];
    return canvas.getContext("2d");
  }

  trail({ places, radius, colour }) {
    const { context } = this;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * radius;
    context.strokeStyle = colour;
    context.globalAlpha = 0.5;
    context.beginPath();
    for (const [x, y] of [places[0], ...places]) context.lineTo(x, y);
    context.stroke();
    context.globalAlpha = 1;
    context.lineCap = "butt";
    context.lineJoin = "miter";
  }

  prompts({ points = [], box = null, band = null, brush = null, cross = null, ruler = null }) {
    const { context } = this;
    const unit = 1 / this.scale;
    const line = (draw) => {
      for (const [width, colour] of [[4, "#000c"], [2, "#fff"]]) {
        context.lineWidth = width * unit;
        context.strokeStyle = colour;
        draw();
      }
    };
    for (const [x0, y0, x1, y1] of [box, band].filter(Boolean)) {
      line(() => context.strokeRect(x0, y0, x1 - x0, y1 - y0));
    }
    for (const { x, y, label } of points) {
      context.beginPath();
      context.arc(x, y, 7 * unit, 0, 2 * Math.PI);
      context.fillStyle = label ? "#1d8a48" : "#c2302b";
      context.fill();
      line(() => context.stroke());
      context.fillStyle = "#fff";
      context.fillRect(x - 4 * unit, y - unit, 8 * unit, 2 * unit);
      if (label) context.fillRect(x - unit, y - 4 * unit, 2 * unit, 8 * unit);
    }
    if (brush) {
      context.beginPath();
      context.arc(brush[0], brush[1], brush[2], 0, 2 * Math.PI);
      line(() => context.stroke());
    }
    if (cross) {
      line(() => {
        context.beginPath();
        context.moveTo(cross[0] - 12 * unit, cross[1]);
        context.lineTo(cross[0] + 12 * unit, cross[1]);
        context.moveTo(cross[0], cross[1] - 12 * unit);
        context.lineTo(cross[0], cross[1] + 12 * unit);
        context.stroke();
      });
    }
    if (ruler) {
      line(() => {
        context.beginPath();
        context.moveTo(ruler.from[0], ruler.from[1]);
        context.lineTo(ruler.to[0], ruler.to[1]);
        context.stroke();
      });
      context.font = `600 ${14 * unit}px system-ui, sans-serif`;
      context.lineWidth = 4 * unit;
      context.strokeStyle = "#000c";
      context.fillStyle = "#fff";
      context.strokeText(ruler.text, ruler.to[0] + 8 * unit, ruler.to[1] - 8 * unit);
      context.fillText(ruler.text, ruler.to[0] + 8 * unit, ruler.to[1] - 8 * unit);
    }
  }
}
