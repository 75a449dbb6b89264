// Decodes beside the page, so that it stays alive: integers in plain JavaScript, networks in ONNX Runtime Web.
// All it works on arrives in messages; it asks no host for anything.
//
//   {runtime, models}      once per model: files as ArrayBuffers
//   {id, data, name}  -->  {id, stage, pixels, seconds} for "sketch", then "preview"; or {id, error}

import * as ort from "./ort.wasm.bundle.min.mjs";
import { hexId, parse } from "./bitstream.js";
import { decodeLatent } from "./coding.js";
import { IntegerEntropyModel } from "./integer.js";

const BAND = 4096; // latent positions that a network sees at once, about a megapixel, to bound the memory
const models = {};

/** Networks start to load at once, and the integers need not wait for them. */
function add(id, { entropy, sketch, preview }, margins) {
  const session = (file) => ort.InferenceSession.create(new Uint8Array(file), { executionProviders: ["wasm"] });
  const sketching = session(sketch), previewing = sketching.then(() => session(preview));
  sketching.catch(() => {}); // told to whoever waits for it
  previewing.catch(() => {});
  models[id] = { entropy: new IntegerEntropyModel(entropy), sketch: sketching, preview: previewing, margins };
}

/** Run a network over the latent, in bands of rows with the margin that it can see: RGBA of the picture's size. */
async function draw(session, units, stream, margin) {
  const { width, height, quality } = stream, rows = Math.ceil(height / 16), columns = Math.ceil(width / 16);
  const area = rows * columns, channels = units.length / area, step = Math.max(1, Math.floor(BAND / columns));
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let top = 0; top < rows; top += step) {
    const bottom = Math.min(rows, top + step), from = Math.max(0, top - margin), to = Math.min(rows, bottom + margin);
    const piece = new Float32Array(channels * (to - from) * columns);
    for (let c = 0; c < channels; c++) {
      piece.set(units.subarray(c * area + from * columns, c * area + to * columns), c * (to - from) * columns);
    }
    const { pixels: drawn } = await session.run({
      units: new ort.Tensor("float32", piece, [1, channels, to - from, columns]),
      quality: new ort.Tensor("float32", [quality]),
    });
    for (let y = 16 * top; y < Math.min(height, 16 * bottom); y++) {
      const start = 4 * 16 * columns * (y - 16 * from);
      pixels.set(drawn.data.subarray(start, start + 4 * width), 4 * width * y); // rounds to the nearest
    }
    drawn.dispose();
  }
  return pixels;
}

async function decode({ id, data, name }) {
  const begin = performance.now(), stream = parse(data, name), model = models[hexId(stream.modelId)];
  const send = (stage, pixels) =>
    postMessage({ id, stage, pixels, seconds: (performance.now() - begin) / 1000 }, [pixels.buffer]);
  let latent;
  for (const { group, units } of decodeLatent(model.entropy, stream, name)) {
    if (group === "structure") send("sketch", await draw(await model.sketch, units, stream, model.margins.sketch));
    latent = units;
  }
  send("preview", await draw(await model.preview, latent, stream, model.margins.preview));
}

let queue = Promise.resolve();
onmessage = ({ data: message }) => {
  if (message.runtime) {
    ort.env.wasm.wasmBinary = message.runtime;
    ort.env.wasm.numThreads = 1;
  }
  if (message.model) add(message.model, message.files, message.margins);
  if (message.data) {
    queue = queue.then(() => decode(message))
      .catch((error) => postMessage({ id: message.id, error: error.message, kind: error.name }));
  }
};
