// The page: files and links come in, the worker decodes, sketch and preview come out.

import { SECTIONS, StreamError, hexId, parse } from "./bitstream.js";
import { bytesOfLink, example, linkOf, manifest, modelFiles, runtime } from "./files.js";

const $ = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en-GB");
const MEANS = { header: "header", crc: "checksums", hyper: "statistics", structure: "first part, with the lines", tone: "second part, what is missing" };
const MAX_SIDE = 1 << 14; // pixels; no browser has longer canvases, and a row of a network's band is as long
const MAX_FILE = 1 << 25; // bytes; more than any stream has that `parse` lets through

let worker = null, shown = null, job = 0, name = "", waiting = null;
const ready = {}; // model id -> a promise that the worker has it

function tell(error) {
  $("error").textContent = error.message;
  $("error").hidden = false;
  $("status").textContent = "";
}

/** The worker, with a model; loads what is missing. */
function prepare(id) {
  ready[id] ??= (async () => {
    const { models } = await manifest, model = models[id];
    if (!model) {
      throw new StreamError("ModelMismatch", `${name}: made by model 0x${id}, but this page holds ` +
        `${Object.keys(models).map((each) => `0x${each}`).join(" and ")}. Decode it with the release that made it, or ` +
        "encode the photo again.");
    }
    const [files, wasm] = await Promise.all([modelFiles(model), worker ? null : runtime()]);
    const message = { model: id, files, margins: model.margins };
    if (!worker) {
      worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
      worker.onmessage = ({ data }) => arrived(data);
      worker.onerror = (event) => {
        fail(new Error(`The decoder stopped: ${event.message ?? "this browser cannot run it"}. Open the file again.`));
        worker = null;
        for (const each in ready) delete ready[each];
      };
      message.runtime = wasm;
    }
    worker.postMessage(message, [...Object.values(files), ...(message.runtime ? [wasm] : [])]);
  })();
  ready[id].catch(() => delete ready[id]); // the next file tries again
  return ready[id];
}

/** Decode a stream and show it. */
async function open(data, called) {
  const mine = ++job;
  name = called;
  $("error").hidden = $("intro").hidden = true;
  delete document.documentElement.dataset.done;
  try {
    const stream = parse(data, called), side = Math.max(stream.width, stream.height);
    if (side > MAX_SIDE) throw new Error(`${called}: a side of ${count(side)} pixels; this page shows ${count(MAX_SIDE)}.`);
    shown = { data, stream, stages: {} };
    describe(stream, data.length);
    history.replaceState(null, "", linkOf(data) || location.pathname + location.search);
    $("frame").hidden = true;
    $("status").textContent = "Loading the decoder …";
    await prepare(hexId(stream.modelId));
    if (mine !== job) return;
    $("status").textContent = "Decoding …";
    worker.postMessage({ id: mine, data, name: called });
  } catch (error) {
    if (mine === job) fail(error);
  }
}

function fail(error) {
  tell(error);
  shown = waiting = null;
  for (const id of ["facts", "frame"]) $(id).hidden = true;
  for (const id of ["copy", "save"]) $(id).disabled = true;
  $("stage").classList.add("empty");
}

/** A stage of the worker, or its error. */
function arrived({ id, stage, pixels, seconds, error, kind }) {
  if (id !== job) return; // of a file that is no longer shown
  if (error) return fail(new StreamError(kind, error));
  const { width, height, missing, damaged } = shown.stream, canvas = $(stage);
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  shown.stages[stage] = seconds;
  $("stage").classList.remove("empty");
  $("frame").hidden = false;
  $("frame").style.setProperty("--ratio", width / height);
  const lost = missing.map((section) => MEANS[section]).join(", ");
  const how = lost ? ` Without ${lost} (${damaged.length ? "damaged" : "cut off"}), so it is coarser.` : "";
  $("status").textContent = `${stage === "sketch" ? "Sketch" : "Preview"} after ${seconds.toFixed(1)} s.${how}`;
  document.documentElement.dataset.done = stage;
  choose();
  if (stage === "preview" && waiting) compare(waiting);
}

/** Facts of the header, and where the bytes went. */
function describe(stream, bytes) {
  const { width, height, quality, modelId, missing, damaged, sectionBytes } = stream;
  $("size").textContent = count(bytes);
  $("about").textContent = `${width} × ${height} pixels, ${((8 * bytes) / (width * height)).toFixed(4)} bits per pixel, ` +
    `quality ${quality.toFixed(2)} of 5, model 0x${hexId(modelId)}`;
  const rows = ["header", ...SECTIONS, "crc"].map((section) => {
    const row = document.createElement("tr"), share = sectionBytes[section] / bytes;
    const lost = damaged.includes(section) ? ", damaged" : missing.includes(section) ? ", cut off" : "";
    const cells = [`${MEANS[section]}${lost}`, count(sectionBytes[section]), `${(100 * share).toFixed(1)} %`];
    row.append(...cells.map((text, i) => {
      const cell = document.createElement(i ? "td" : "th");
      if (!i) cell.scope = "row";
      cell.textContent = text;
      return cell;
    }));
    row.className = section;
    return row;
  });
  $("sections").replaceChildren(...rows);
  $("bar").replaceChildren(...["header", ...SECTIONS, "crc"].map((section) => {
    const piece = document.createElement("i");
    piece.className = section;
    piece.style.flexGrow = sectionBytes[section];
    return piece;
  }));
  $("facts").hidden = false;
  $("save").disabled = false;
  $("copy").disabled = !linkOf(shown.data);
}

/** Show the chosen stage, or the finest that there is. */
function choose() {
  const wanted = document.querySelector("[name=stage]:checked").value;
  const stage = shown?.stages[wanted] === undefined ? "sketch" : wanted;
  for (const each of ["sketch", "preview"]) $(each).hidden = each !== stage;
  $("left").textContent = stage;
}

/** Put a photo behind the divider. */
async function compare(blob) {
  waiting = null;
  URL.revokeObjectURL($("photo").src);
  const photo = $("photo");
  photo.src = URL.createObjectURL(blob);
  try {
    await photo.decode();
  } catch {
    return tell(new Error(`${blob.name ?? "photo"}: this browser reads no such picture. Save it as JPEG or PNG.`));
  }
  if (Math.abs(Math.log((photo.naturalWidth / photo.naturalHeight) / (shown.stream.width / shown.stream.height))) > 0.02) {
    return tell(new Error(`${blob.name ?? "photo"}: has another shape than the picture; it is not the one it was made of.`));
  }
  for (const id of ["photo", "divider", "right"]) $(id).hidden = false;
  $("advice").hidden = true;
}

function withoutPhoto() {
  for (const id of ["photo", "divider", "right"]) $(id).hidden = true;
  $("advice").hidden = false;
}

/** Files that were chosen or dropped: a stream, a photo, or both. */
async function take(files) {
  const starts = await Promise.all(files.map((file) => file.slice(0, 2).arrayBuffer()));
  const isStream = (file, [first, second]) => file.name.endsWith(".skf") || (first === 0x53 && second >> 4 === 0xf);
  const streams = files.filter((file, i) => isStream(file, new Uint8Array(starts[i])) || !file.type.startsWith("image/"));
  const photo = files.find((file) => !streams.includes(file)), stream = streams[0];
  if (stream?.size > MAX_FILE) return fail(new Error(`${stream.name}: ${count(stream.size)} bytes; no stream is as large.`));
  if (stream) {
    withoutPhoto();
    await open(new Uint8Array(await stream.arrayBuffer()), stream.name);
  }
  if (photo && shown?.stages.preview !== undefined) await compare(photo);
  else if (photo) waiting = photo;
  if (photo && !shown && !stream) $("status").textContent = `${photo.name} is a photo. Now drop the .skf made of it.`;
}

function fromAddress() {
  try {
    const data = bytesOfLink(location.hash);
    if (!data) return;
    withoutPhoto();
    open(data, "link");
  } catch (error) {
    fail(error);
  }
}

async function tryExample() {
  try {
    const [stream, photo] = await example();
    waiting = new Blob([photo], { type: "image/jpeg" });
    await open(new Uint8Array(stream), "example");
  } catch (error) {
    fail(error);
  }
}

function save() {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(new Blob([shown.data], { type: "application/octet-stream" }));
  anchor.download = name.endsWith(".skf") ? name : "photo.skf";
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(location.href);
    $("status").textContent = `Link copied: ${count(location.href.length)} letters hold the whole photo.`;
  } catch {
    $("status").textContent = "This browser lets no page copy; the link stands in the address bar.";
  }
}

$("file").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});
$("try").addEventListener("click", tryExample);
$("save").addEventListener("click", save);
$("copy").addEventListener("click", copy);
$("divider").addEventListener("input", (event) => $("frame").style.setProperty("--split", `${event.target.value}%`));
for (const radio of document.querySelectorAll("[name=stage]")) radio.addEventListener("change", choose);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
}
addEventListener("hashchange", fromAddress);
$("hint").textContent = "or open a link that carries one.";
$("try").hidden = false;
if (!location.hash) manifest.then(({ models }) => prepare(Object.keys(models)[0])).catch(tell); // while nobody waits
navigator.serviceWorker?.register(new URL("sw.js", import.meta.url)).catch(() => {}); // offline is a gift, not a need
fromAddress();
