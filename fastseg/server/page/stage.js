// Pointer, wheel and keyboard on the image.

const DRAG = 5;

export class Stage {
  constructor(element, view, session) {
    this.element = element;
    this.view = view;
    this.session = session;
    this.tool = "prompt";
    this.brush = 12;
    this.down = null;
    this.band = null;
    this.cross = null;
    this.ruler = null;
    this.pointed = null;
    this.hovering = null;
    this.painted = null;
    this.trail = null;
    this.pinch = new Map();
    element.addEventListener("pointerdown", (event) => this.press(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    element.addEventListener("pointerup", (event) => this.release(event));
    element.addEventListener("pointercancel", (event) => this.cancel(event));
    element.addEventListener("pointerleave", () => this.leave());
    element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  get isPainting() {
    return this.tool === "add" || this.tool === "erase";
  }

  get isPrompting() {
    return this.tool === "prompt" || this.tool === "background";
  }

  /** Label of a point: 0 is the background, by shift or by its tool. */
  label(event) {
    return event.shiftKey || this.tool === "background" ? 0 : 1;
  }

  radius() {
    return this.brush / this.view.scale;
  }

  press(event) {
    if (!this.session.image || event.target.closest("#busy, #empty")) return;
    this.element.focus({ preventScroll: true });
    this.element.setPointerCapture(event.pointerId);
    this.pinch.set(event.pointerId, [event.clientX, event.clientY]);
    const at = this.view.place(event);
    const pans = event.button === 1 || event.button === 2 || this.pinch.size > 1;
    this.down = { at, x: event.clientX, y: event.clientY, pans, moved: false };
    this.cross = null;
    this.band = null;
    if (pans) return;
    if (this.isPainting || (this.isPrompting && !this.session.candidates.length)) this.session.clock.enter("prompt");
    if (this.isPainting) {
      this.trail = [];
      this.painted = this.session.pixels();
      this.dab(at);
    }
    if (this.tool === "ruler") this.ruler = null;
  }

  move(event) {
    if (!this.session.image) return;
    const at = this.view.place(event);
    const { down } = this;
    if (!down) {
      this.point(at);
      return;
    }
    if (this.pinch.size === 2) {
      this.squeeze(event);
      return;
    }
    down.moved ||= Math.hypot(event.clientX - down.x, event.clientY - down.y) > DRAG;
    if (down.pans) {
      this.view.pan(event.movementX, event.movementY);
    } else if (this.isPainting) {
      this.stroke(at);
    } else if (down.moved && this.tool === "ruler") {
      this.ruler = { from: down.at, to: at, text: this.session.distance(down.at, at) };
    } else if (down.moved) {
      this.band = [Math.min(down.at[0], at[0]), Math.min(down.at[1], at[1]), Math.max(down.at[0], at[0]), Math.max(down.at[1], at[1])];
    }
    this.view.draw();
  }

  release(event) {
    const { down, band } = this;
    this.pinch.delete(event.pointerId);
    this.down = null;
    this.band = null;
    if (!down || down.pans || !this.session.image) return;
    if (this.isPainting) {
      this.session.paint(this.painted);
      this.painted = this.trail = null;
    } else if (this.isPrompting && band) {
      this.session.box(band);
    } else if (this.isPrompting && !down.moved) {
      this.click(down.at, this.label(event));
    }
    this.view.draw();
  }

  cancel(event) {
    this.pinch.delete(event.pointerId);
    this.down = null;
    this.band = null;
    this.painted = this.trail = null;
    this.view.draw();
  }

  leave() {
    this.hovering = null;
    this.session.hover = null;
    this.view.draw();
  }

  click([x, y], label) {
    const { session } = this;
    const candidate = session.candidates.length ? session.candidateAt(x, y) : null;
    if (candidate !== null) session.take(candidate);
    else session.point(x, y, label);
  }

  point(at) {
    const { session } = this;
    this.hovering = at;
    if (session.candidates.length) session.hover = session.candidateAt(...at);
    if (session.candidates.length || this.isPainting) this.view.draw();
  }

  squeeze(event) {
    const before = [...this.pinch.values()];
    this.pinch.set(event.pointerId, [event.clientX, event.clientY]);
    const after = [...this.pinch.values()];
    const apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    const middle = ([a, b]) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const [from, to] = [middle(before), middle(after)];
    const box = this.element.getBoundingClientRect();
    this.view.zoom(apart(after) / Math.max(1, apart(before)), to[0] - box.left, to[1] - box.top);
    this.view.pan(to[0] - from[0], to[1] - from[1]);
  }

  // Brush

  stroke(at) {
    const from = this.trail.at(-1);
    const steps = Math.max(1, Math.ceil(Math.hypot(at[0] - from[0], at[1] - from[1]) / Math.max(1, this.radius() / 3)));
    for (let i = 1; i <= steps; i++) {
      this.dab([from[0] + ((at[0] - from[0]) * i) / steps, from[1] + ((at[1] - from[1]) * i) / steps]);
    }
  }

  dab(at) {
    const { width, height } = this.session.image;
    const radius = this.radius();
    const value = this.tool === "add" ? 1 : 0;
    const [left, right] = [Math.max(0, Math.floor(at[0] - radius)), Math.min(width - 1, Math.ceil(at[0] + radius))];
    const [top, bottom] = [Math.max(0, Math.floor(at[1] - radius)), Math.min(height - 1, Math.ceil(at[1] + radius))];
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        if (Math.hypot(x + 0.5 - at[0], y + 0.5 - at[1]) <= Math.max(radius, 0.71)) this.painted[y * width + x] = value;
      }
    }
    this.trail.push(at);
    this.hovering = at;
  }

  // Wheel and keyboard

  wheel(event) {
    const { session, view } = this;
    if (!session.image) return;
    event.preventDefault();
    if (session.image.frames > 1 && !event.ctrlKey) {
      session.goTo(session.frame + Math.sign(event.deltaY));
      return;
    }
    const box = this.element.getBoundingClientRect();
    view.zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { image } = this.session;
    if (!image || event.target !== this.element) return;
    if (event.key in steps) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round(12 / this.view.scale));
      const [x, y] = this.cross ?? [image.width / 2, image.height / 2];
      const [dx, dy] = steps[event.key];
      this.cross = [Math.min(Math.max(x + dx * step, 0), image.width), Math.min(Math.max(y + dy * step, 0), image.height)];
      if (this.session.candidates.length) this.session.hover = this.session.candidateAt(...this.cross);
      this.view.draw();
      event.preventDefault();
    } else if (event.key === " ") {
      this.click(this.cross ?? [image.width / 2, image.height / 2], this.label(event));
      event.preventDefault();
    }
  }

  /** Everything that is drawn over the image. */
  scene() {
    const { session } = this;
    const still = session.state.objects
      .filter(({ frame }) => frame === session.frame)
      .map(({ mask, name }) => ({ mask, colour: session.colour(name), strong: false }));
    session.candidates.forEach((mask, i) => still.push({ mask, colour: session.shade(i), strong: false }));
    const masks = [];
    const under = session.candidates[session.hover];
    if (under) masks.push({ mask: under, colour: "#ffffff", strong: true });
    if (this.pointed?.frame === session.frame) masks.push({ mask: this.pointed.mask, colour: session.colour(this.pointed.name), strong: true });
    const { draft } = session;
    if (draft?.masks[draft.chosen]) masks.push({ mask: draft.masks[draft.chosen], colour: session.colour(session.name), strong: true });
    const brush = this.isPainting && this.hovering ? [...this.hovering, this.radius()] : null;
    const colour = this.tool === "erase" ? "#000000" : session.colour(session.name);
    const trail = this.trail && { places: this.trail, radius: this.radius(), colour };
    return { still, masks, trail, points: draft?.points, box: draft?.box, band: this.band, cross: this.cross, ruler: this.ruler, brush };
  }
}
