// The panel beside the image: alternatives, objects, clock.

const byId = (id) => document.getElementById(id);

export class Panel {
  constructor(session, stage, clock) {
    this.session = session;
    this.stage = stage;
    this.clock = clock;
    this.shownDraft = undefined;
    this.shownObjects = undefined;
    setInterval(() => this.times(), 200);
  }

  show() {
    const { session } = this;
    const { image, draft, busy, history, state } = session;
    byId("empty").hidden = Boolean(image || busy);
    byId("image-name").textContent = image?.name ?? "";
    byId("image-name").title = image?.name ?? "";
    byId("undo").disabled = !history.canUndo;
    byId("redo").disabled = !history.canRedo;
    byId("everything").disabled = !image || Boolean(busy);
    byId("export").disabled = !(state.objects.length || draft?.masks.length);
    const ready = Boolean(draft?.masks.length);
    byId("keep").disabled = !ready;
    byId("refine").disabled = !ready;
    byId("discard").disabled = !draft && !session.candidates.length;
    byId("candidates").textContent = session.candidates.length ? `${session.candidates.length} masks to choose from` : "";
    byId("count").textContent = state.objects.length;
    this.working(busy);
    this.frames(image);
    if (draft !== this.shownDraft) this.alternatives(draft);
    const colours = `${session.names.length} ${session.frame}`;
    if (state.objects !== this.shownObjects || colours !== this.shownColours) this.objects(state.objects);
    this.shownColours = colours;
    this.suggestions();
  }

  working(busy) {
    byId("busy").hidden = !busy;
    if (!busy) return;
    const bar = byId("busy").querySelector(".bar");
    bar.classList.toggle("moving", !busy.total);
    bar.firstElementChild.style.width = busy.total ? `${(100 * busy.done) / busy.total}%` : "";
    byId("busy-text").textContent = busy.total ? `${busy.text}: ${busy.done} of ${busy.total}` : busy.text;
    byId("cancel").hidden = !busy.cancel;
  }

  frames(image) {
    const several = Boolean(image && image.frames > 1);
    byId("frames").hidden = !several;
    if (!several) return;
    byId("frame").max = image.frames - 1;
    byId("frame").value = this.session.frame;
    byId("frame-place").textContent = `${this.session.frame + 1} of ${image.frames}`;
  }

  alternatives(draft) {
    this.shownDraft = draft;
    const place = byId("alternatives");
    const masks = draft?.masks ?? [];
    place.replaceChildren(...masks.map((mask, i) => this.alternative(mask, i, draft)));
    place.hidden = !masks.length;
    byId("hint").textContent = draft
      ? masks.length
        ? draft.edited ? `${this.session.area(masks[0])}, corrected by hand. Refine gives it to the model.` : `${this.session.area(masks[draft.chosen])}. Points correct it; shift or Outside for the background. Enter keeps it.`
        : "The model is at it."
      : "Click an object, or drag a box around it.";
  }

  alternative(mask, index, draft) {
    const { session } = this;
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", String(index === draft.chosen));
    const score = mask.score === null ? "by hand" : mask.score.toFixed(2);
    button.setAttribute("aria-label", `Alternative ${index + 1}, score ${score}, ${session.area(mask)}`);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [160, 120];
    this.thumbnail(canvas, mask);
    button.append(canvas, `${index + 1}: ${score}`);
    button.addEventListener("click", () => session.choose(index));
    return button;
  }

  /** Draw a mask over its part of the image. */
  thumbnail(canvas, mask) {
    const context = canvas.getContext("2d");
    const { preview } = this.session.view;
    if (!preview || !mask.area) return;
    mask.index();
    const [x0, y0, x1, y1] = mask.extent;
    const margin = 0.25 * Math.max(x1 - x0, y1 - y0) + 4;
    const scale = Math.min(canvas.width / (x1 - x0 + 2 * margin), canvas.height / (y1 - y0 + 2 * margin));
    const [dx, dy] = [canvas.width / 2 - (scale * (x0 + x1)) / 2, canvas.height / 2 - (scale * (y0 + y1)) / 2];
    context.drawImage(preview, dx, dy, mask.width * scale, mask.height * scale);
    const over = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
    mask.draw(over.getContext("2d"), scale, dx, dy, this.session.colour(this.session.name));
    context.globalAlpha = 0.55;
    context.drawImage(over, 0, 0);
  }

  objects(objects) {
    this.shownObjects = objects;
    byId("objects").replaceChildren(...objects.map((object, i) => this.object(object, i)));
  }

  object(object, index) {
    const { session, stage } = this;
    const row = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = session.colour(object.name);
    const name = document.createElement("input");
    name.value = object.name;
    name.placeholder = "no name";
    name.setAttribute("list", "names");
    name.setAttribute("aria-label", `Name of object ${index + 1}`);
    name.addEventListener("change", () => session.rename(index, name.value.trim()));
    const area = document.createElement("span");
    area.className = "area";
    const frame = session.image?.frames > 1 ? `, frame ${object.frame + 1}` : "";
    area.textContent = session.area(object.mask) + frame;
    const buttons = document.createElement("span");
    for (const [text, label, action] of [
      ["Edit", `Edit object ${index + 1}`, () => session.edit(index)],
      ["×", `Remove object ${index + 1}`, () => session.change(index, null)],
    ]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-label", label);
      button.addEventListener("click", action);
      buttons.append(button);
    }
    row.addEventListener("pointerenter", () => {
      stage.pointed = object;
      session.view.draw();
    });
    row.addEventListener("pointerleave", () => {
      stage.pointed = null;
      session.view.draw();
    });
    row.append(swatch, name, area, buttons);
    return row;
  }

  suggestions() {
    const { names } = this.session;
    if (byId("names").childElementCount === names.length) return;
    byId("names").replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  }

  times() {
    const write = (row, values) => values.forEach((value, i) => (row.cells[i + 1].textContent = value.toFixed(1)));
    const item = this.clock.current();
    const total = item.prompt + item.wait + item.choose + item.name;
    write(byId("clock-item"), [item.prompt, item.wait, item.choose, item.name, total]);
    write(byId("clock-sum"), ["prompt_s", "wait_s", "choose_s", "name_s", "total_s"].map((name) => this.clock.sum(name)));
  }
}
