// What the page loads: files of its own folder, each checked against the manifest's sha256.

/** Bytes of a file beside the page. */
async function load(path) {
  const answer = await fetch(new URL(path, import.meta.url));
  if (!answer.ok) throw new Error(`${path}: not found on this host (${answer.status}). Load the page again.`);
  return answer.arrayBuffer();
}

async function checked({ path, sha256 }) {
  const bytes = await load(`models/${path}`);
  if (globalThis.crypto?.subtle) { // only where the address is https or this machine's
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== sha256) throw new Error(`${path}: damaged on its way (sha256 differs). Load the page again.`);
  }
  return bytes;
}

export const manifest = load("models/manifest.json").then((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
manifest.catch(() => {}); // told to whoever waits for it

/** The runtime's WebAssembly. */
export const runtime = () => load("ort-wasm-simd-threaded.wasm");

/** Files of a model of the manifest: name -> ArrayBuffer. */
export async function modelFiles({ files }) {
  const names = Object.keys(files), loaded = await Promise.all(names.map((name) => checked(files[name])));
  return Object.fromEntries(names.map((name, i) => [name, loaded[i]]));
}

/** The example of the first visit: a stream, and the photo that it was made of. */
export const example = () => Promise.all([load("example.skf"), load("example.jpg")]);

// Links. What follows the # stays in the browser; its length is bounded before it is looked at.
export const LINK_BYTES = 48 << 10;
const KEY = "#skf=";

/** Bytes that an address carries, or null where it carries none. */
export function bytesOfLink(hash) {
  if (!hash.startsWith(KEY)) return null;
  const text = hash.slice(KEY.length);
  if (text.length > Math.ceil((LINK_BYTES * 4) / 3)) {
    throw new Error(`link: longer than the ${LINK_BYTES} bytes that a link may carry. Open the file in its place.`);
  }
  if (!/^[\w-]*$/.test(text) || text.length % 4 === 1) {
    throw new Error("link: damaged, it holds letters that no link has. Copy it again, to its very end.");
  }
  return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
}

/** The end of a link that carries these bytes; empty if they are too many. */
export const linkOf = (data) => data.length > LINK_BYTES ? "" : KEY +
  btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
