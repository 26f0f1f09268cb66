// The clock: seconds to draw a prompt, to wait, to choose and to name, an item and in sum.

const PHASES = ["prompt", "wait", "choose", "name"];

export const COLUMNS = [
  "image", "frame", "item", "name", "status", "prompts",
  "prompt_s", "wait_s", "choose_s", "name_s", "total_s",
  "score", "area_px", "area_cm2", "ended",
];

export class Clock {
  constructor() {
    this.rows = [];
    this.reset();
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.resume()));
  }

  /** Begin an item: everything until its first mask is time to draw its prompt. */
  reset() {
    this.item = Object.fromEntries(PHASES.map((phase) => [phase, 0]));
    this.phase = null;
    this.held = null;
    this.since = 0;
  }

  begin() {
    this.reset();
    this.enter("prompt");
  }

  /** Go on with another phase of the item; null stands still. */
  enter(phase) {
    this.add();
    this.phase = phase;
    this.since = performance.now();
  }

  add() {
    if (this.phase) this.item[this.phase] += (performance.now() - this.since) / 1000;
    this.since = performance.now();
  }

  pause() {
    if (!this.phase) return;
    this.held = this.phase;
    this.enter(null);
  }

  resume() {
    if (this.held) this.enter(this.held);
    this.held = null;
  }

  /** End the item, note it, and begin the next. */
  end(about) {
    this.add();
    const total = PHASES.reduce((sum, phase) => sum + this.item[phase], 0);
    const seconds = Object.fromEntries(PHASES.map((phase) => [`${phase}_s`, this.item[phase]]));
    this.rows.push({ ...about, item: this.rows.length + 1, ...seconds, total_s: total, ended: new Date().toISOString() });
    this.begin();
  }

  current() {
    this.add();
    return this.item;
  }

  sum(column) {
    return this.rows.reduce((sum, row) => sum + row[column], 0);
  }

  csv() {
    const sums = Object.fromEntries([...PHASES.map((phase) => `${phase}_s`), "total_s"].map((name) => [name, this.sum(name)]));
    const last = { image: "", frame: "", item: "sum", prompts: this.sum("prompts"), ...sums };
    const write = (value) => {
      if (value === undefined || value === null) return "";
      const text = typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : String(value);
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [...this.rows, last].map((row) => COLUMNS.map((name) => write(row[name])).join(","));
    return [COLUMNS.join(","), ...lines].join("\n") + "\n";
  }
}
