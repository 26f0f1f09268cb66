// One open image: its frames, prompts, masks and named objects.

import * as api from "./api.js";
import { History } from "./history.js";
import { Mask } from "./mask.js";

const COLOURS = [
  "#2fb4d8", "#f2a03d", "#b07cf0", "#58c26a", "#f0698f", "#d9c22e",
  "#4f8df5", "#e57b4a", "#3fc4a7", "#c96fd1", "#9bb83a", "#e86a6a",
];
const EMPTY = { objects: [], draft: null };
const OWN_FORMATS = /^image\/(png|jpeg|webp|gif|bmp)$/;

export class Session extends EventTarget {
  constructor(view, clock) {
    super();
    this.view = view;
    this.clock = clock;
    this.image = null;
    this.source = null;
    this.exported = null;
    this.frame = 0;
    this.names = [];
    this.name = "";
    this.candidates = [];
    this.hover = null;
    this.busy = null;
    this.requests = 0;
    this.asking = null;
    this.local = null;
    this.window = null;
    this.history = new History(EMPTY);
  }

  get state() {
    return this.history.state;
  }

  /** True while objects were not exported as they are now. */
  get unsaved() {
    return this.state.objects.length > 0 && this.state.objects !== this.exported;
  }

  get draft() {
    return this.state.draft;
  }

  changed() {
    this.view.draw();
    this.dispatchEvent(new Event("change"));
  }

  tell(text, bad = false) {
    this.dispatchEvent(new CustomEvent("tell", { detail: { text, bad } }));
  }

  /** Run a step; a refusal is told, and everything else stays as it is. */
  async attempt(step) {
    try {
      return await step();
    } catch (error) {
      if (error.name === "AbortError") return undefined;
      if (!(error instanceof api.Refusal)) throw error;
      if (error.status === 401) this.dispatchEvent(new Event("token"));
      this.tell(error.message, true);
      return undefined;
    }
  }

  colour(name) {
    const index = this.names.indexOf(name);
    return COLOURS[(index < 0 ? this.names.length : index) % COLOURS.length];
  }

  /** Colour of a mask that has no name yet. */
  shade(index) {
    return COLOURS[index % COLOURS.length];
  }

  learn(name) {
    if (name && !this.names.includes(name)) this.names = [...this.names, name];
  }

  /** Open a file of the person's machine, or a path inside the server's root. */
  async open({ file = null, path = null, window = null }) {
    if (this.busy) return undefined;
    this.source = { file, path };
    return this.attempt(async () => {
      this.work("Reading and embedding the image");
      try {
        const local = file && OWN_FORMATS.test(file.type) ? createImageBitmap(file).catch(() => null) : null;
        const query = new URLSearchParams({ name: file?.name ?? "", ...(window ? { window } : {}) });
        const image = file
          ? await api.json("POST", `/v1/images?${query}`, file)
          : await api.json("POST", "/v1/images", { path, ...(window ? { window } : {}) });
        this.close();
        Object.assign(this, { image, window, frame: 0, candidates: [], hover: null });
        const bitmap = local && (await local);
        const same = bitmap && bitmap.width === image.width && bitmap.height === image.height;
        this.local = same && image.frames === 1 && !image.modality ? bitmap : null;
        this.history.reset(EMPTY);
        await this.showFrame(false);
        this.clock.begin();
        const millimetres = image.spacing_mm ? `, pixels of ${image.spacing_mm.map((side) => +side.toFixed(3)).join(" x ")} mm` : "";
        this.tell(`${image.width} x ${image.height} pixels${image.frames > 1 ? `, ${image.frames} frames` : ""}${millimetres}. Click an object, or drag a box around it.`);
        return true;
      } finally {
        this.work(null);
      }
    });
  }

  /** Close the image at the server. */
  close() {
    if (!this.image) return;
    api.json("DELETE", `/v1/images/${this.image.id}`).catch(() => {});
    this.image = null;
  }

  async showFrame(keep) {
    const { image } = this;
    const bitmap = this.local ?? (await createImageBitmap((await api.blob("GET", `/v1/images/${image.id}/view?frame=${this.frame}&format=jpeg`)).content));
    if (image === this.image) this.view.show(bitmap, image.height, image.width, keep);
    this.changed();
  }

  async goTo(frame) {
    const { image } = this;
    if (!image || frame === this.frame || frame < 0 || frame >= image.frames) return;
    if (this.draft) await this.keep();
    this.frame = frame;
    this.candidates = [];
    this.changed();
    await this.attempt(() => this.showFrame(true));
  }

  work(text, cancel = null) {
    this.busy = text && { text, cancel, done: 0, total: 0 };
    this.changed();
  }

  // Prompts

  point(x, y, label) {
    if (!this.image || x < 0 || y < 0 || x > this.image.width || y > this.image.height) return;
    const draft = this.draft ?? this.blank();
    this.prompt({ ...draft, points: [...draft.points, { x, y, label }] });
  }

  box(corners) {
    const { width, height } = this.image;
    const [x0, y0, x1, y1] = corners.map((value, i) => Math.min(Math.max(value, 0), i % 2 ? height : width));
    if (x1 - x0 < 1 || y1 - y0 < 1) return;
    this.prompt({ ...(this.draft ?? this.blank()), box: [x0, y0, x1, y1] });
  }

  blank() {
    return { points: [], box: null, masks: [], chosen: 0, edited: false, status: "drawn" };
  }

  prompt(draft) {
    this.candidates = [];
    this.asking = this.ask(draft, false);
  }

  /** Give the corrected mask to the model, with the points and the box. */
  refine() {
    if (!this.draft?.masks.length) return;
    this.asking = this.ask(this.draft, true);
  }

  toPrompt(draft, withMask) {
    const { points, box, masks, chosen } = draft;
    const prompt = {};
    if (points.length) {
      prompt.points = points.map(({ x, y }) => [x, y]);
      prompt.labels = points.map(({ label }) => label);
    }
    if (box) prompt.box = box;
    if (withMask) {
      // Without its box a network may follow the points alone, and lose what was painted.
      masks[chosen].index();
      prompt.mask = masks[chosen].segmentation;
      prompt.box = masks[chosen].extent;
    }
    return prompt;
  }

  async masksFor(prompts, frame, best = false) {
    const body = { prompts, frame, best };
    const answer = await api.json("POST", `/v1/images/${this.image.id}/masks`, body);
    return answer.masks.map((row) => new Mask(row.segmentation, row.predicted_iou));
  }

  /** Ask for the masks of a draft, and put them into every state that has it. */
  async ask(given, withMask) {
    const request = ++this.requests;
    const draft = { ...given, request };
    this.history.push({ ...this.state, draft });
    this.clock.enter("wait");
    this.changed();
    performance.mark("fastseg-asked");
    await this.attempt(async () => {
      const masks = await this.masksFor([this.toPrompt(draft, withMask)], this.frame);
      performance.mark("fastseg-answered");
      const scores = masks.map((mask) => mask.score);
      const best = scores.indexOf(Math.max(...scores));
      this.history.states = this.history.states.map((state) => {
        if (state.draft?.request !== request) return state;
        const chosen = state.draft.chosen === draft.chosen ? best : state.draft.chosen;
        return { ...state, draft: { ...state.draft, masks, chosen, edited: false } };
      });
    });
    if (request === this.requests) {
      this.asking = null;
      this.clock.enter(this.draft?.masks.length ? "choose" : "prompt");
    }
    this.changed();
  }

  choose(index) {
    if (!this.draft || index >= this.draft.masks.length || index === this.draft.chosen) return;
    this.history.push({ ...this.state, draft: { ...this.draft, chosen: index } });
    this.changed();
  }

  /** Take a mask that was painted. */
  paint(pixels) {
    const { height, width } = this.image;
    const draft = { ...(this.draft ?? this.blank()), request: null };
    const mask = Mask.fromPixels(pixels, height, width, draft.masks[draft.chosen]?.score ?? null);
    const status = draft.points.length || draft.box || draft.status === "chosen" ? "corrected" : "painted";
    this.history.push({ ...this.state, draft: { ...draft, masks: [mask], chosen: 0, edited: true, status } });
    this.clock.enter("choose");
    this.changed();
  }

  pixels() {
    const mask = this.draft?.masks[this.draft.chosen];
    return mask ? mask.pixels() : new Uint8Array(this.image.width * this.image.height);
  }

  // Objects

  /** Keep the mask that is worked on, once the model has answered. */
  async keep() {
    const { name } = this;
    await this.asking;
    const { draft } = this;
    const mask = draft?.masks[draft.chosen];
    if (!mask) return;
    if (!mask.area) {
      this.tell("This mask is empty. Choose another one, or add a point.", true);
      return;
    }
    this.learn(name);
    const object = { name, mask, frame: this.frame, draft, status: draft.status };
    this.history.push({ objects: [...this.state.objects, object], draft: null });
    this.note(object);
    this.tell(`Kept ${name || "the object"}, ${this.area(mask)}.`);
    this.changed();
  }

  note({ name, mask, frame, draft, status }) {
    const square = this.squareCentimetres(mask);
    this.clock.end({
      image: this.image.name,
      frame,
      name,
      status,
      prompts: draft ? draft.points.length + (draft.box ? 1 : 0) : 0,
      score: mask?.score,
      area_px: mask?.area,
      area_cm2: square,
    });
  }

  discard() {
    if (this.candidates.length) this.candidates = [];
    else if (this.draft) {
      this.history.push({ ...this.state, draft: null });
      this.clock.enter("prompt");
    }
    this.changed();
  }

  change(index, object) {
    const objects = [...this.state.objects];
    if (object) objects[index] = object;
    else objects.splice(index, 1);
    this.history.push({ ...this.state, objects });
    this.changed();
  }

  rename(index, name) {
    this.learn(name);
    this.change(index, { ...this.state.objects[index], name });
  }

  /** Make a kept object the one that is worked on. */
  async edit(index) {
    if (this.draft) await this.keep();
    const object = this.state.objects[index];
    const draft = { ...(object.draft ?? this.blank()), masks: [object.mask], chosen: 0, status: "modified" };
    this.name = object.name;
    const objects = this.state.objects.filter((_, i) => i !== index);
    this.history.push({ objects, draft });
    this.changed();
    this.goTo(object.frame);
  }

  undo() {
    this.history.undo();
    this.changed();
  }

  redo() {
    this.history.redo();
    this.changed();
  }

  // Everything

  /** Run a job with progress, and hand its result over; Cancel ends it. */
  async job(text, path, body, take) {
    const stop = new AbortController();
    this.work(text, () => stop.abort());
    this.clock.enter("wait");
    await this.attempt(async () => {
      for await (const event of api.lines(`/v1/images/${this.image.id}/${path}`, body, stop.signal)) {
        if (event.event === "progress") {
          Object.assign(this.busy, { done: event.done, total: event.total });
          this.changed();
        }
        if (event.event === "error") this.tell(event.error.message, true);
        if (event.event === "result") take(event);
      }
    });
    this.work(null);
    this.clock.enter("choose");
    this.changed();
  }

  async everything(pointsPerSide) {
    if (!this.image || this.busy) return;
    const body = { frame: this.frame, points_per_side: pointsPerSide };
    await this.job("Finding everything", "everything", body, ({ masks }) => {
      this.candidates = masks.map((row) => new Mask(row.segmentation, row.predicted_iou)).sort((a, b) => a.area - b.area);
      this.tell(`${this.candidates.length} masks. Point at one and click to take it; Esc ends this.`);
    });
  }

  /** Follow the objects of this frame through all frames. */
  async propagate() {
    if (!this.image || this.image.frames < 2 || this.busy) return;
    if (this.draft) await this.keep();
    const here = this.state.objects.filter(({ frame }) => frame === this.frame);
    if (!here.length) return this.tell("Keep an object on this frame first; it is then followed.", true);
    const prompts = here.map(({ mask }) => {
      mask.index();
      return { box: mask.extent };
    });
    const from = this.frame;
    await this.job("Following", "propagate", { prompts, frame: from }, ({ frames }) => {
      const found = frames
        .filter(({ frame }) => frame !== from)
        .flatMap(({ frame, masks }) => masks.map((row) => ({
          name: here[row.prompt].name,
          mask: new Mask(row.segmentation, row.predicted_iou),
          frame,
          draft: null,
          status: "proposed",
        })));
      this.history.push({ ...this.state, objects: [...this.state.objects, ...found] });
      this.tell(`${found.length} masks on ${new Set(found.map(({ frame }) => frame)).size} other frames. Look through them, and correct what is wrong.`);
    });
  }

  /** Index of the smallest candidate at a place. */
  candidateAt(x, y) {
    const index = this.candidates.findIndex((mask) => mask.has(x, y));
    return index < 0 ? null : index;
  }

  take(index) {
    const mask = this.candidates[index];
    this.candidates = this.candidates.filter((_, i) => i !== index);
    this.hover = null;
    const draft = { ...this.blank(), masks: [mask], status: "chosen" };
    this.learn(this.name);
    const object = { name: this.name, mask, frame: this.frame, draft: null, status: "chosen" };
    this.history.push({ objects: [...this.state.objects, object], draft: null });
    this.note({ ...object, draft });
    this.clock.enter("choose");
    this.changed();
  }

  // Prompts of another frame or image

  async carry() {
    const before = this.state.objects.filter(({ frame, draft }) => frame === this.frame - 1 && draft);
    if (!before.length) return this.tell("The frame before has no object with prompts.", true);
    return this.repeat(before);
  }

  /** Use the prompts of other objects here. */
  async repeat(objects) {
    const usable = objects.filter(({ draft }) => draft && (draft.points.length || draft.box));
    if (!usable.length) return;
    await this.attempt(async () => {
      const masks = await this.masksFor(usable.map(({ draft }) => this.toPrompt(draft, false)), this.frame, true);
      const added = masks.map((mask, i) => ({ ...usable[i], mask, frame: this.frame, status: "proposed" }));
      this.history.push({ ...this.state, objects: [...this.state.objects, ...added] });
      this.clock.enter("choose");
      this.tell(`${added.length} proposed from the prompts before. Correct what is wrong.`);
    });
    this.changed();
  }

  // Measures

  squareCentimetres(mask) {
    const spacing = this.image?.spacing_mm;
    return spacing && mask ? (mask.area * spacing[0] * spacing[1]) / 100 : null;
  }

  area(mask) {
    const square = this.squareCentimetres(mask);
    return square === null ? `${mask.area.toLocaleString("en")} px` : `${square.toFixed(2)} cm²`;
  }

  distance(from, to) {
    const spacing = this.image.spacing_mm;
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    if (!spacing) return `${Math.hypot(dx, dy).toFixed(1)} px`;
    return `${(Math.hypot(dx * spacing[1], dy * spacing[0]) / 10).toFixed(2)} cm`;
  }

  // Export

  frames() {
    const frames = new Map();
    for (const { frame, mask, name } of this.state.objects) {
      if (!frames.has(frame)) frames.set(frame, []);
      frames.get(frame).push({ segmentation: mask.segmentation, name, score: mask.score ?? 0 });
    }
    return [...frames].map(([frame, masks]) => ({ frame, masks }));
  }

  async export(format) {
    if (this.draft) await this.keep();
    let frames = this.frames();
    if (["png", "overlay"].includes(format)) frames = frames.filter(({ frame }) => frame === this.frame);
    if (!frames.length) return this.tell("There is no mask to export on this frame.", true);
    return this.attempt(async () => {
      const { content, name } = await api.blob("POST", `/v1/images/${this.image.id}/export`, { format, frames });
      api.save(content, name);
      this.exported = this.state.objects;
      this.tell(`Exported ${name}.`);
    });
  }
}
