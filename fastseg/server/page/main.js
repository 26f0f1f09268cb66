// The page: its parts, and the events that join them.

import * as api from "./api.js";
import { Clock } from "./clock.js";
import { Folder } from "./folder.js";
import { Panel } from "./panel.js";
import { Session } from "./session.js";
import { Stage } from "./stage.js";
import { View } from "./view.js";

const WINDOWS = ["file", "soft-tissue", "lung", "bone", "brain", "liver", "mediastinum", "percentile:0.5,99.5"];
const byId = (id) => document.getElementById(id);

const clock = new Clock();
const view = new View(byId("canvas"));
const session = new Session(view, clock);
const stage = new Stage(byId("stage"), view, session);
const panel = new Panel(session, stage, clock);
const folder = new Folder(session);
view.scene = () => stage.scene();

async function start() {
  const about = await session.attempt(() => api.json("GET", "/v1/server"));
  if (!about) return;
  byId("model").textContent = `${about.model}, ${about.device} ${about.precision}`;
  byId("model").title = about.backend;
  byId("folder-open").hidden = !about.root;
  byId("points-per-side").max = about.limits.max_points_per_side;
}

async function open(file, window = null) {
  if (session.busy) return;
  await folder.close();
  byId("window-box").hidden = true;
  if (await session.open({ file, window })) showWindow();
}

function showWindow() {
  const medical = session.image && !session.image.colour && session.image.modality;
  byId("window-box").hidden = !medical && !session.window;
  byId("window").value = session.window ?? "file";
}

function setTool(tool) {
  stage.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-checked", String(button.dataset.tool === tool));
  }
  byId("brush-label").hidden = !stage.isPainting;
  if (tool !== "ruler") stage.ruler = null;
  view.draw();
}

function setBrush(size) {
  stage.brush = Math.min(100, Math.max(1, size));
  byId("brush-size").value = stage.brush;
  view.draw();
}

/** The next object begins with a point on it. */
function nextObject() {
  if (stage.tool === "background") setTool("prompt");
}

function keep() {
  session.name = byId("name").value.trim();
  session.keep();
  nextObject();
  byId("stage").focus({ preventScroll: true });
}

function discard() {
  session.discard();
  nextObject();
}

function everything() {
  session.name = byId("name").value.trim();
  session.everything(Number(byId("points-per-side").value));
}

session.addEventListener("change", () => panel.show());
session.addEventListener("tell", ({ detail }) => {
  byId("status").textContent = detail.text;
  byId("status").classList.toggle("bad", detail.bad);
  if (detail.bad && / needs a window/.test(detail.text)) {
    byId("window-box").hidden = false;
    byId("window").value = "";
  }
});
session.addEventListener("token", () => {
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
});
byId("token-dialog").addEventListener("close", () => {
  api.useToken(byId("token").value.trim());
  start();
});

byId("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) open(file);
  event.target.value = "";
});
byId("window").replaceChildren(
  Object.assign(new Option("choose a window", ""), { disabled: true }),
  ...WINDOWS.map((name) => new Option(name === "file" ? "of the file" : name, name)),
);
byId("window").addEventListener("change", async (event) => {
  const window = event.target.value;
  if (session.source && (await session.open({ ...session.source, window }))) showWindow();
});

for (const kind of ["dragenter", "dragover"]) {
  byId("stage").addEventListener(kind, (event) => {
    event.preventDefault();
    byId("stage").classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  byId("stage").addEventListener(kind, (event) => {
    event.preventDefault();
    byId("stage").classList.remove("over");
    const file = event.dataTransfer?.files[0];
    if (kind === "drop" && file) open(file);
  });
}

for (const button of document.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", () => setTool(button.dataset.tool));
}
byId("brush-size").addEventListener("input", (event) => setBrush(Number(event.target.value)));
byId("undo").addEventListener("click", () => session.undo());
byId("redo").addEventListener("click", () => session.redo());
byId("fit").addEventListener("click", () => view.fit());
byId("keep").addEventListener("click", keep);
byId("discard").addEventListener("click", discard);
byId("refine").addEventListener("click", () => session.refine());
byId("everything").addEventListener("click", everything);
byId("cancel").addEventListener("click", () => session.busy?.cancel?.());
byId("frame").addEventListener("input", (event) => session.goTo(Number(event.target.value)));
byId("carry").addEventListener("click", () => session.carry());
byId("propagate").addEventListener("click", () => session.propagate());
byId("export").addEventListener("click", () => {
  session.name = byId("name").value.trim();
  session.export(byId("format").value);
});
byId("csv").addEventListener("click", () => api.save(new Blob([clock.csv()], { type: "text/csv" }), "times.csv"));
byId("help-open").addEventListener("click", () => byId("help").showModal());
byId("folder-open").addEventListener("click", () => folder.open());

byId("name").addEventListener("focus", () => session.image && session.draft && clock.enter("name"));
byId("name").addEventListener("input", (event) => {
  session.name = event.target.value.trim();
  view.draw();
});
byId("name").addEventListener("blur", () => clock.phase === "name" && clock.enter("choose"));
byId("name").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  event.stopPropagation();
  keep();
});

const KEYS = {
  Enter: keep,
  Escape: discard,
  1: () => session.choose(0),
  2: () => session.choose(1),
  3: () => session.choose(2),
  n: () => byId("name").select(),
  e: everything,
  p: () => setTool("prompt"),
  o: () => setTool("background"),
  b: () => setTool("add"),
  x: () => setTool("erase"),
  r: () => setTool("ruler"),
  f: () => session.refine(),
  c: () => session.carry(),
  g: () => session.propagate(),
  "[": () => setBrush(stage.brush - 3),
  "]": () => setBrush(stage.brush + 3),
  "+": () => view.zoom(1.25, byId("stage").clientWidth / 2, byId("stage").clientHeight / 2),
  "-": () => view.zoom(0.8, byId("stage").clientWidth / 2, byId("stage").clientHeight / 2),
  0: () => view.fit(),
  PageUp: () => session.goTo(session.frame - 1),
  PageDown: () => session.goTo(session.frame + 1),
  a: () => folder.approve(),
  m: () => folder.review("modified"),
  ",": () => folder.step(-1),
  ".": () => folder.step(1),
};

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, select, textarea, dialog, button");
  if ((event.ctrlKey || event.metaKey) && !event.target.closest("input:not([type=range])")) {
    const key = event.key.toLowerCase();
    if (key === "z") event.shiftKey ? session.redo() : session.undo();
    else if (key === "y") session.redo();
    else return;
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // Letters work wherever the focus is, but keys of a field or a button are its own.
  if (field && (field.matches("input, select, textarea, dialog") || ["Enter", " "].includes(event.key))) {
    if (event.key === "Escape" && field.id === "name") byId("stage").focus();
    return;
  }
  const action = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

addEventListener("beforeunload", (event) => {
  if (session.unsaved) event.preventDefault();
});
addEventListener("pagehide", () => session.close());
panel.show();
start();
