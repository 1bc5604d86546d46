"use strict";

const $ = (id) => document.getElementById(id);
const board = $("board");
const pen = board.getContext("2d");
const cursor = $("cursor").getContext("2d");
const seen = $("seen").getContext("2d");
const PEN = 20; // of the board's 280: about as thick as MNIST's strokes
const STEP = 7;

let bars = []; // one for each class

function showClasses(classes) {
  $("bars").replaceChildren();
  bars = classes.map((name) => {
    const row = $("bars").appendChild(document.createElement("li"));
    const label = row.appendChild(document.createElement("span"));
    label.textContent = label.title = name;
    label.className = "label";
    const track = row.appendChild(document.createElement("div"));
    track.className = "track";
    const fill = track.appendChild(document.createElement("div"));
    fill.className = "fill";
    const share = row.appendChild(document.createElement("span"));
    share.className = "share";
    share.textContent = "–";
    return { name, row, fill, share };
  });
  const longest = Math.max(...classes.map((name) => name.length));
  $("bars").style.setProperty("--label", `${Math.min(longest + 0.2, 12)}ch`);
  $("digit").className = longest > 2 ? "name" : "";
  const digits = classes.join() === "0,1,2,3,4,5,6,7,8,9";
  document.title = $("title").textContent = digits ? "Draw a digit" : "Draw one of these";
  $("hint").textContent = digits ? "0 – 9" : "";
}

let empty = true;
let last = null; // where the pointer was last, during a stroke
let key = { x: 140, y: 60, down: false, shown: false };
let changed = false; // since the last request
let busy = false; // waiting for an answer

function start() {
  pen.globalCompositeOperation = "source-over";
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, 280, 280);
  pen.globalCompositeOperation = "lighter";
  pen.strokeStyle = "#fff";
  pen.lineWidth = PEN;
  pen.lineCap = pen.lineJoin = "round";
}

function stroke(from, to) {
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x + 0.01, to.y);
  pen.stroke();
  empty = false;
  $("hint").hidden = true;
  changed = true;
  ask();
}

function clear() {
  start();
  empty = true;
  last = null;
  key.down = false;
  changed = false;
  $("hint").hidden = false;
  show(null);
  showCursor();
}

function show(prediction) {
  seen.clearRect(0, 0, $("seen").width, $("seen").height);
  $("digit").textContent = prediction ? prediction.label : "–";
  bars.forEach(({ name, row, fill, share }, at) => {
    const p = prediction ? prediction.probabilities[at] : 0;
    row.className = prediction && name === prediction.label ? "best" : "";
    fill.style.transform = `scaleX(${p})`;
    share.textContent = prediction ? `${(100 * p).toFixed(1)} %` : "–";
  });
  if (!prediction) {
    $("message").textContent = "Nothing yet: draw something.";
    return;
  }
  const sure = Math.max(...prediction.probabilities);
  const how = sure > 0.95 ? "That is" : sure > 0.6 ? "Probably" : "Perhaps";
  const article = /^[8aeiou]/i.test(prediction.label) ? "an" : "a";
  $("message").textContent = `${how} ${article} ${prediction.label}.`;
  const [height, width] = [prediction.seen.length, prediction.seen[0].length];
  if ($("seen").width !== width || $("seen").height !== height) {
    [$("seen").width, $("seen").height] = [width, height]; // which clears it
    $("seen").style.width = `${(84 * width) / Math.max(width, height)}px`;
    $("seen").style.height = `${(84 * height) / Math.max(width, height)}px`;
    $("seen").ariaLabel = `The ${width} by ${height} pixels that the network is shown`;
    $("size").textContent = `${width} × ${height}`;
  }
  const pixels = seen.createImageData(width, height);
  prediction.seen.flat().forEach((value, at) => pixels.data.set([value, value, value, 255], 4 * at));
  seen.putImageData(pixels, 0, 0);
}

// One request at a time: what changes in the meantime goes into the next one.
async function ask() {
  if (busy || !changed) return;
  busy = true;
  changed = false;
  try {
    const image = await new Promise((done) => board.toBlob(done, "image/png"));
    const response = await fetch("/predict", { method: "POST", headers: { "Content-Type": "image/png" }, body: image });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    if (String(answer.model_version) !== $("model").dataset.version) await describe();
    if (!empty) show(answer.predictions[0]);
  } catch (error) {
    $("message").textContent = error instanceof TypeError ? "The server does not answer." : `${error.message}.`;
  }
  busy = false;
  if (changed) setTimeout(ask, 30);
}

async function describe() {
  try {
    const model = await (await fetch("/model")).json();
    const accuracy = model.holdout_accuracy;
    const worth = accuracy === null ? "" : `, ${(100 * accuracy).toFixed(2)} % on the holdout`;
    $("model").textContent = `${model.name}, version ${model.version}${worth}`;
    $("model").dataset.version = model.version;
    if (model.classes.join() !== bars.map(({ name }) => name).join()) showClasses(model.classes);
  } catch {
    $("model").textContent = "The server does not answer.";
  }
}

function at(event) {
  const box = board.getBoundingClientRect();
  return { x: ((event.clientX - box.left) * 280) / box.width, y: ((event.clientY - box.top) * 280) / box.height };
}

board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  board.setPointerCapture(event.pointerId);
  key.shown = false;
  showCursor();
  last = at(event);
  stroke(last, last);
});
board.addEventListener("pointermove", (event) => {
  if (!last) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) {
    const next = at(each);
    stroke(last, next);
    last = next;
  }
});
for (const end of ["pointerup", "pointercancel"]) board.addEventListener(end, () => (last = null));

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
board.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in MOVES) {
    const [dx, dy] = MOVES[event.key];
    const within = (value) => Math.min(Math.max(value, PEN / 2), 280 - PEN / 2);
    const next = { x: within(key.x + dx * STEP), y: within(key.y + dy * STEP) };
    if (key.down) stroke(key, next);
    key = { ...key, ...next };
  } else if (event.key === " ") {
    key.down = !key.down;
    if (key.down) stroke(key, key);
  } else {
    return;
  }
  event.preventDefault();
  key.shown = true;
  showCursor();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" || event.key.toLowerCase() === "c") clear();
});
board.addEventListener("focus", () => {
  key.shown = board.matches(":focus-visible");
  showCursor();
});
board.addEventListener("blur", () => {
  key.shown = key.down = false;
  showCursor();
});
$("clear").addEventListener("click", clear);

function showCursor() {
  cursor.clearRect(0, 0, 280, 280);
  if (!key.shown) return;
  cursor.beginPath();
  cursor.arc(key.x, key.y, PEN / 2, 0, 7);
  cursor.strokeStyle = key.down ? "#6db1f2" : "#9aa3af";
  cursor.lineWidth = 3;
  cursor.stroke();
}

start();
describe();
setInterval(describe, 5000);
