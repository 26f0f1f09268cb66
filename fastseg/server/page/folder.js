// Annotation of a folder: open, approve or modify, next.

import * as api from "./api.js";

const byId = (id) => document.getElementById(id);

export class Folder {
  constructor(session) {
    this.session = session;
    this.paths = [];
    this.place = -1;
    this.reviews = new Map();
    this.kept = new Map();
    byId("previous").addEventListener("click", () => this.step(-1));
    byId("next").addEventListener("click", () => this.step(1));
    byId("approve").addEventListener("click", () => this.approve());
    byId("modify").addEventListener("click", () => this.review("modified"));
  }

  get isOpen() {
    return this.place >= 0;
  }

  async open() {
    const found = await this.session.attempt(() => api.json("GET", "/v1/folder"));
    if (!found) return;
    this.paths = found.paths;
    if (!this.paths.length) return this.session.tell("The folder holds no image.", true);
    byId("folder").hidden = false;
    await this.go(0);
  }

  /** Go on with an image from elsewhere. */
  async close() {
    await this.leave();
    this.place = -1;
    byId("folder").hidden = true;
  }

  async go(place) {
    const { session } = this;
    const before = await this.leave();
    this.place = place;
    const path = this.paths[place];
    if (!(await session.open({ path }))) return this.show();
    const known = this.kept.get(path);
    if (known) session.history.reset({ objects: known, draft: null });
    else if (byId("propose").value === "before" && before.length) await session.repeat(before);
    session.changed();
    return this.show();
  }

  /** Hold the objects of the image that is left, and note the time that it took to look at it. */
  async leave() {
    const { session } = this;
    if (!this.isOpen || !session.image) return [];
    if (session.draft) await session.keep();
    const path = this.paths[this.place];
    this.kept.set(path, session.state.objects);
    const review = this.reviews.get(path);
    if (review) session.note({ name: "", mask: null, frame: 0, draft: null, status: review });
    return session.state.objects;
  }

  async step(by) {
    const place = this.place + by;
    if (!this.isOpen || place < 0 || place >= this.paths.length || this.session.busy) return;
    await this.go(place);
  }

  async approve() {
    if (!this.isOpen) return;
    this.review(this.reviews.get(this.paths[this.place]) ?? "approved");
    if (this.place + 1 < this.paths.length) await this.step(1);
    else this.session.tell("This was the last image of the folder.");
  }

  review(word) {
    if (!this.isOpen) return;
    this.reviews.set(this.paths[this.place], word);
    this.show();
  }

  show() {
    byId("folder-place").textContent = `${this.place + 1} of ${this.paths.length}`;
    byId("previous").disabled = this.place <= 0;
    byId("next").disabled = this.place + 1 >= this.paths.length;
    const review = this.reviews.get(this.paths[this.place]);
    byId("review").hidden = !review;
    byId("review").textContent = review ?? "";
    byId("review").className = `badge ${review ?? ""}`;
  }
}
