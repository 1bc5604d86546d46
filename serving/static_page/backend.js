// What the page asks: the model beside it, which onnxruntime-web runs in the browser.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { read } from "./preprocessing.js";

const UNSURE = 0.5; // as in mnist_pipeline/batch_inference.py

ort.env.wasm.numThreads = 1; // more need headers that not every host sends
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };

const loaded = (async () => {
  const card = await (await fetch("card.json")).json();
  return { card, session: await ort.InferenceSession.create(card.file) };
})();

export async function describe() {
  const { card } = await loaded;
  const accuracy = card.exported_accuracy ?? card.holdout_accuracy;
  return { ...card, holdout_accuracy: accuracy, image_size: [card.height, card.width], log: false };
}

export async function predict(board) {
  const { card, session } = await loaded;
  const picture = board.getContext("2d").getImageData(0, 0, board.width, board.height);
  const { pixels, warning } = read(picture, { ...card, image_size: [card.height, card.width] });
  const images = new ort.Tensor("uint8", pixels, [1, card.height, card.width]);
  const { probabilities } = await session.run({ images });
  const values = [...probabilities.data];
  const best = Math.max(...values);
  const seen = Array.from({ length: card.height }, (_, y) => [...pixels.slice(y * card.width, (y + 1) * card.width)]);
  const prediction = {
    label: card.classes[values.indexOf(best)],
    confidence: best,
    probabilities: values,
    seen,
    warning: warning || (best < UNSURE ? "no class is likely" : null),
  };
  return { model: card.name, model_version: card.version, predictions: [prediction] };
}

export async function correct() {
  throw new Error("nothing is kept here that could be corrected");
}
