import * as backend from "./backend.js"; // a server, or the model itself

const $ = (id) => document.getElementById(id);
const board = $("board");
const pen = board.getContext("2d", { willReadFrequently: true });
const cursor = $("cursor").getContext("2d");
const seen = $("seen").getContext("2d");
const PEN = 20; // of the board's 280: about as thick as MNIST's strokes
const STEP = 7;

const PAUSE = 800; // milliseconds without a stroke, after which a drawing is taken to be finished

let bars = []; // one for each class
let model = {}; // as the server describes it
let answer = null; // the one that may be corrected

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
  $("choices").replaceChildren(
    ...classes.map((name) => {
      const choice = document.createElement("button");
      choice.type = "button";
      choice.textContent = name;
      choice.ariaLabel = `That was ${article(name)} ${name}`;
      choice.ariaPressed = "false";
      choice.addEventListener("click", () => correct(name));
      return choice;
    }),
  );
  const longest = Math.max(...classes.map((name) => name.length));
  $("bars").style.setProperty("--label", `${Math.min(longest + 0.2, 12)}ch`);
  $("choices").style.setProperty("--choice", longest > 2 ? "7rem" : "44px");
  $("digit").className = longest > 2 ? "name" : "";
  const digits = classes.join() === "0,1,2,3,4,5,6,7,8,9";
  document.title = $("title").textContent = digits ? "Draw a digit" : "Draw one of these";
  $("hint").textContent = digits ? "0 – 9" : "";
}

const article = (name) => (/^[8aeiou]/i.test(name) ? "an" : "a");

let empty = true;
let last = null; // where the pointer was last, during a stroke
let key = { x: 140, y: 60, down: false, shown: false };
let changed = false; // since the last request
let busy = false; // waiting for an answer
let finished = 0; // the timer after which a drawing is taken to be
let keep = false; // whether the server keeps the next request: what is drawn when it is finished, and no stroke of it

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
  keep = false;
  offerCorrection(null);
  clearTimeout(finished);
  finished = setTimeout(finish, PAUSE);
  ask();
}

function finish() {
  if (!model.log || empty) return;
  if (last) {
    finished = setTimeout(finish, PAUSE); // the pen is still down
    return;
  }
  changed = keep = true;
  ask();
}

function clear() {
  start();
  empty = true;
  last = null;
  key.down = false;
  changed = keep = false;
  clearTimeout(finished);
  offerCorrection(null);
  $("hint").hidden = false;
  show(null);
  showCursor();
}

function show(prediction) {
  seen.clearRect(0, 0, $("seen").width, $("seen").height);
  $("digit").textContent = prediction ? (prediction.label ?? "?") : "–";
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
  const likeliest = bars[prediction.probabilities.indexOf(sure)].name;
  const how = prediction.label === null ? "Not sure: perhaps" : sure > 0.95 ? "That is" : sure > 0.6 ? "Probably" : "Perhaps";
  const but = prediction.label === null ? "Unclear: " : "But it is unclear: ";
  const unclear = prediction.warning ? ` ${but}${prediction.warning}.` : "";
  $("message").textContent = `${how} ${article(likeliest)} ${likeliest}.${unclear}`;
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
  const kept = keep;
  changed = keep = false;
  try {
    const { model_version, predictions } = await backend.predict(board, kept);
    if (String(model_version) !== $("model").dataset.version) await describe();
    if (!empty) show(predictions[0]);
    if (kept && !empty && !changed) offerCorrection(predictions[0]);
  } catch (error) {
    $("message").textContent = reason(error);
  }
  busy = false;
  if (changed) setTimeout(ask, 30);
}

const reason = (error) => (error instanceof TypeError ? "The server does not answer." : `${error.message}.`);

function offerCorrection(prediction) {
  answer = prediction?.id ? prediction : null;
  $("correction").hidden = !answer;
  $("thanks").textContent = "";
  for (const choice of $("choices").children) choice.ariaPressed = "false";
}

async function correct(label) {
  const corrected = answer;
  try {
    await backend.correct(corrected.id, label);
    if (answer !== corrected) return; // something else has been drawn
    for (const choice of $("choices").children) choice.ariaPressed = String(choice.textContent === label);
    $("thanks").textContent = `Thank you: noted as ${article(label)} ${label}.`;
  } catch (error) {
    $("thanks").textContent = reason(error);
  }
}

async function describe() {
  try {
    model = await backend.describe();
    const accuracy = model.holdout_accuracy;
    const worth = accuracy === null ? "" : `, ${(100 * accuracy).toFixed(2)} % on the holdout`;
    $("model").textContent = `${model.name}, version ${model.version}${worth}`;
    $("model").dataset.version = model.version;
    $("kept").hidden = !model.log;
    if (model.classes.join() !== bars.map(({ name }) => name).join()) showClasses(model.classes);
  } catch (error) {
    $("model").textContent = $("access").hidden ? reason(error) : ""; // the form says the same
  }
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value.trim());
  $("token").value = "";
  changed = !empty;
  describe().then(ask);
});

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
  if (event.target.tagName === "INPUT") return;
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
