// Puts the page together: the engine, the objects, the picture on the stage, and every button.

import { whenTokenIsWanted } from "./api.js";
import { Cutting } from "./cutting.js";
import { Camera } from "./camera.js";
import { BrowserEngine } from "./engine-browser.js";
import { ServerEngine } from "./engine-server.js";
import { coco, cutout, download, erased, maskPicture, onGround, recoloured, svg } from "./exports.js";
import { Finding } from "./finding.js";
import { fillShortcuts } from "./help.js";
import { listenToKeys } from "./keyboard.js";
import { intersection, minus, union } from "./masks.js";
import { busy, calm, complain, say, time } from "./notices.js";
import { Objects } from "./objects.js";
import { Panel } from "./panel.js";
import { keepForOffline } from "./offline.js";
import { listenForPictures } from "./pictures.js";
import { Previews } from "./previews.js";
import { Stage } from "./stage.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const isStatic = document.querySelector("meta[name=samlet-engine]").content === "browser";

let picture = null; // {name, stem, size: [height, width]}
let models = {};
let opening = 0; // counts, so that of two pictures the later one wins

const engine = isStatic
  ? new BrowserEngine(showWhere, (done, total) => loading?.progress(done, total))
  : new ServerEngine(showWhere);
let loading = null;

const objects = new Objects();
const view = new View($("stage"), { picture: $("picture"), masks: $("masks"), overlay: $("overlay") });
const finding = new Finding();
const cutting = new Cutting(engine, objects, reportMask);
const previews = new Previews(engine, showPreview);
const panel = new Panel($("objects"), $("object-row"), objects);
const stage = new Stage($("stage"), {
  view, objects, cutting, previews, finding, pick, brushSize: () => Number($("brush").value),
});

const camera = new Camera({
  load: () => engine.live($("model").value),
  began: () => { opening++; leave(); $("start").hidden = true; },
  took: (blob) => open(blob, "camera.jpg"),
  stopped: () => { $("start").hidden = false; say("Ready."); },
});

// A picture

async function open(file, name) {
  const turn = ++opening;
  calm();
  camera.close();
  loading = busy("Opening the picture …");
  $("work").hidden = false;
  $("start").hidden = true;
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(file).catch(() => {
      throw new Error("This browser cannot show that file; choose a JPEG, PNG or WebP.");
    });
    if (turn !== opening) return bitmap.close();
    const opened = engine.open(file, bitmap, $("model").value);
    begin(bitmap, file, name, opened);
    loading = busy(isStatic ? "Loading the model and looking at the picture …" : "Looking at the picture …");
    const embedded = await opened;
    if (turn !== opening) return;
    if (embedded.width !== bitmap.width || embedded.height !== bitmap.height) {
      throw new Error("The server and this browser see the picture turned differently; save it upright and try again.");
    }
    picture.isReady = true;
    say(`${name}: ${bitmap.width} by ${bitmap.height} pixels, looked at in ${time(embedded.milliseconds)}. Click on something.`);
  } catch (error) {
    if (turn !== opening) return;
    leave();
    complain(error);
    say("Ready.");
  } finally {
    if (turn === opening) loading.done();
    if (turn === opening) update();
  }
}

function begin(bitmap, file, name, opened) {
  objects.clear();
  finding.end();
  const size = [bitmap.height, bitmap.width];
  picture = { name, file, stem: name.replace(/\.[^.]*$/, "") || "picture", size, isReady: false };
  cutting.begin(size, opened);
  stage.begin();
  view.show(bitmap);
  document.title = `${name} · samlet`;
  $("stage").setAttribute("aria-label", `Picture ${name}`);
  $("stage").focus({ preventScroll: true });
  update();
}

function leave() {
  picture = null;
  objects.clear();
  finding.end();
  view.show(null);
  engine.close().catch(() => {}); // it is gone already, or will be forgotten by the server in time
  $("work").hidden = true;
  $("start").hidden = false;
}

// Masks

function reportMask({ error, milliseconds, where, area }) {
  if (error) {
    complain(error);
    return;
  }
  calm();
  const place = where === "browser" ? "in this browser" : "on the server";
  say(area ? `Cut out in ${time(milliseconds)} ${place}.` : "Nothing found there; click elsewhere or draw a box.");
}

function showPreview(preview) {
  stage.showPreview(preview);
  $("stage").dataset.preview = preview ? String(Math.round(preview.milliseconds * 10) / 10) : "";
}

async function everything() {
  if (!picture?.isReady) return;
  if (finding.isOn) {
    endPicking();
    return;
  }
  const stop = new AbortController();
  const work = busy("Finding everything …", () => stop.abort());
  const [now, started] = [picture, performance.now()];
  try {
    const { masks } = await engine.everything((done, total) => work.progress(done, total), stop.signal);
    if (picture !== now) return;
    calm();
    startPicking(masks, performance.now() - started);
  } catch (error) {
    if (error.name !== "AbortError") complain(error);
    else say("Stopped.");
  } finally {
    work.done();
  }
}

function startPicking(masks, milliseconds) {
  previews.clear();
  finding.begin(masks);
  say(finding.isOn ? `Found ${finding.found.length} things in ${time(milliseconds)}. Click those you want to keep.`
    : "Nothing found; click on something instead.");
  update();
}

function endPicking() {
  finding.end();
  update();
}

function pick(thing) {
  if (!thing || thing.taken) return;
  thing.taken = true;
  cutting.take([{ mask: thing.mask, score: thing.score, colour: thing.colour }]);
  say(`Kept: ${objects.active.name}.`);
}

function takeAll() {
  if (!finding.isOn) return;
  const left = finding.found.filter(({ taken }) => !taken);
  endPicking();
  cutting.take(left.map(({ mask, score, colour }) => ({ mask, score, colour })));
  say(`Kept ${left.length} objects.`);
}

async function findText(words) {
  if (!words || !picture?.isReady) return;
  const work = busy(`Finding “${words}” …`);
  const now = picture;
  try {
    const { masks, milliseconds } = await engine.text(words);
    if (picture !== now) return;
    calm();
    cutting.take(masks.map(({ mask, score, label }) => ({ mask, score, name: label ?? words })));
    say(masks.length ? `Found ${masks.length} for “${words}” in ${time(milliseconds)}.` : `Nothing found for “${words}”.`);
  } catch (error) {
    complain(error);
  } finally {
    work.done();
  }
}

function nextCandidate() {
  const token = cutting.nextCandidate();
  if (token === null) say("Click on something first; then its other sizes can be tried.");
  else say(token ? `Proposal ${token} of 3.` : "The network's own choice.");
}

const COMBINE = {
  join: { make: (masks) => union(masks), done: "Joined" },
  overlap: { make: (masks) => intersection(masks), done: "Made the overlap" },
  subtract: { make: ([first, ...others]) => minus(first, others), done: "Subtracted" },
};

async function combine(kind) {
  await cutting.settled();
  const shown = combinable();
  if (shown.length < 2) return;
  shown.sort((a, b) => (b === objects.active) - (a === objects.active)); // what the others are taken from comes first
  const { make, done } = COMBINE[kind];
  const mask = make(shown.map(({ answer }) => answer.shown.mask));
  if (!mask.runs.some((length, index) => index % 2 && length)) {
    say("Nothing would be left; the objects stay as they are.");
    return;
  }
  cutting.makeOf(mask, shown.map(({ id }) => id));
  say(`${done}: ${objects.active.name}. Those it is made of are hidden.`);
}

function combinable() {
  return objects.list.filter(({ visible, answer }) => visible && answer?.shown?.area);
}

// Saving

const SAVES = {
  cutout: (wanted) => cutout(view.bitmap, wanted, picture.stem, softness()),
  blurred: (wanted) => onGround(view.bitmap, wanted, picture.stem, softness()),
  ground: (wanted) => onGround(view.bitmap, wanted, picture.stem, softness(), $("ground").value),
  recoloured: (wanted) => recoloured(view.bitmap, wanted, picture.stem, softness()),
  erased: (wanted) => erased(view.bitmap, wanted, picture.stem),
  mask: (wanted) => maskPicture(wanted, picture.stem),
  coco: (wanted) => coco(wanted, picture.stem, picture.name),
  svg: (wanted) => svg(wanted, picture.stem),
};

async function save(kind) {
  await cutting.settled();
  const wanted = savable();
  if (!wanted.length) {
    complain(new Error("There is nothing to save yet; cut something out first."));
    return;
  }
  try {
    const file = await SAVES[kind](wanted);
    download(file);
    say(`Saved ${file.name}.`);
  } catch (error) {
    complain(error);
  }
}

function softness() {
  return $("soft").checked ? Math.max(2, Math.max(...picture.size) / 400) : 0;
}

function savable() {
  const onlyActive = document.querySelector("input[name=scope]:checked").value === "active";
  return objects.list
    .filter((object) => object.visible && object.answer?.shown?.area && (!onlyActive || object === objects.active))
    .map(({ name, colour, answer: { shown: { mask, score } } }) => ({ name, colour, mask, score }));
}

// Buttons

function chooseTool(tool) {
  stage.tool = tool;
  $("stage").dataset.tool = tool;
  $("brush-field").hidden = tool !== "brush";
  press("[data-tool].tool", (button) => button.dataset.tool === tool);
  previews.clear();
}

function chooseSign(sign) {
  stage.sign = sign;
  press("[data-sign]", (button) => button.dataset.sign === sign);
}

function press(selector, isPressed) {
  for (const button of document.querySelectorAll(selector)) {
    button.setAttribute("aria-pressed", String(isPressed(button)));
  }
}

function chooseTheme(isDark) {
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(isDark));
}

function thicker(factor) {
  $("brush").value = Math.round(Number($("brush").value) * factor);
  view.repaint("overlay");
}

const commands = {
  newObject() {
    if (finding.isOn) endPicking();
    objects.select(null);
    chooseTool("select");
    chooseSign("add");
    say("The next click starts another object.");
  },
  select: () => chooseTool("select"),
  brush: () => chooseTool("brush"),
  move: () => chooseTool("move"),
  toggleSign: () => chooseSign(stage.sign === "add" ? "remove" : "add"),
  candidate: nextCandidate,
  everything,
  takeAll,
  text: () => $("text").focus(),
  open: () => $("file").click(),
  fit: () => view.fit(),
  zoomIn: () => view.zoomMiddle(1.4),
  zoomOut: () => view.zoomMiddle(1 / 1.4),
  thinner: () => thicker(1 / 1.25),
  thicker: () => thicker(1.25),
  help: () => $("help-dialog").showModal(),
  remove: () => { if (objects.active) objects.remove(objects.active.id); },
  dropLast: () => cutting.dropLast(),
  choose: (index) => { if (objects.list[index]) objects.select(objects.list[index].id); },
  cancel() {
    calm();
    if (camera.isOn) camera.letGo();
    if (!stage.cancel() && finding.isOn) endPicking();
  },
  undo: () => say(objects.undo() ? "Undone." : "Nothing to undo."),
  redo: () => say(objects.redo() ? "Done again." : "Nothing to redo."),
  save: () => save("cutout"),
};

function update() {
  const isReady = Boolean(picture?.isReady);
  if (picture) panel.render(picture.size[0] * picture.size[1]);
  $("no-objects").hidden = objects.list.length > 0;
  $("candidate").disabled = !objects.active || !(objects.active.points.length || objects.active.box);
  for (const id of ["everything", "new-object"]) $(id).disabled = !isReady;
  $("everything").querySelector("span").textContent = finding.isOn ? "Stop choosing" : "Find everything";
  for (const button of document.querySelectorAll("[data-save]")) button.disabled = !savable().length;
  const parts = combinable();
  for (const button of document.querySelectorAll("[data-combine]")) {
    button.disabled = parts.length < 2 || (button.dataset.combine === "subtract" && !parts.includes(objects.active));
  }
  document.querySelector("[data-do=undo]").disabled = !objects.canUndo;
  document.querySelector("[data-do=redo]").disabled = !objects.canRedo;
  $("picking").hidden = !finding.isOn;
  $("stage").classList.toggle("picking", finding.isOn);
  $("stage").dataset.ready = String(isReady);
  $("work").dataset.objects = objects.list.length;
  view.repaint("masks", "overlay");
}

function showWhere(isLocal) {
  $("where").textContent = picture && (isLocal ? "Masks are made in this browser." : "Masks are made on the server.");
  $("stage").dataset.where = isLocal ? "browser" : "server";
}

async function loadModels() {
  try {
    models = await engine.models();
  } catch (error) {
    complain(error);
    return;
  }
  for (const [id, { display_name: name, default: isDefault, licence }] of Object.entries(models)) {
    const option = new Option(id, id, isDefault, isDefault);
    option.title = [name, licence].filter(Boolean).join(" · ");
    $("model").add(option);
  }
  $("model-field").hidden = Object.keys(models).length < 2;
}

function askForToken() {
  const dialog = $("token-dialog");
  $("token").value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "enter" ? $("token").value : null), { once: true });
  });
}

function promise() {
  return isStatic
    ? "The model runs in this browser; no picture leaves your computer."
    : "The picture goes to this page's server only, is kept in its memory, and forgotten when you leave.";
}

objects.addEventListener("change", update);
view.addEventListener("move", () => previews.clear());
listenForPictures(
  { drop: document.body, input: $("file"), examples: $("examples"), buttons: [$("choose"), $("open")] }, open, complain,
);
listenToKeys($("stage"), commands, stage.keys, () => $("letters").checked);
for (const button of document.querySelectorAll("[data-tool].tool")) {
  button.addEventListener("click", () => chooseTool(button.dataset.tool));
}
for (const button of document.querySelectorAll("[data-sign]")) {
  button.addEventListener("click", () => chooseSign(button.dataset.sign));
}
for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => commands[button.dataset.do]());
}
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => save(button.dataset.save));
}
for (const button of document.querySelectorAll("[data-combine]")) {
  button.addEventListener("click", () => combine(button.dataset.combine));
}
for (const radio of document.querySelectorAll("input[name=scope]")) radio.addEventListener("change", update);
$("new-object").addEventListener("click", commands.newObject);
$("candidate").addEventListener("click", nextCandidate);
$("everything").addEventListener("click", everything);
$("take-all").addEventListener("click", takeAll);
$("picking-done").addEventListener("click", endPicking);
$("text-form").addEventListener("submit", (event) => {
  event.preventDefault();
  findText($("text").value.trim());
});
$("model").addEventListener("change", () => {
  camera.forget();
  if (picture) open(picture.file, picture.name);
});
$("theme").addEventListener("click", () => chooseTheme(document.documentElement.dataset.theme !== "dark"));
$("help").addEventListener("click", commands.help);
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
prefersDark.addEventListener("change", ({ matches }) => chooseTheme(matches));
chooseTheme(prefersDark.matches);
// The server need not keep a picture whose visitor has left; one who comes back begins anew.
window.addEventListener("pagehide", () => {
  camera.close();
  engine.close().catch(() => {});
});
window.addEventListener("pageshow", ({ persisted }) => { if (persisted) window.location.reload(); });
fillShortcuts($("shortcuts"));
whenTokenIsWanted(askForToken);
for (const id of ["camera", "camera-again"]) $(id).addEventListener("click", () => camera.start());
$("promise").textContent = $("privacy").textContent = promise();
update();
loadModels();
if (isStatic) keepForOffline(say);
