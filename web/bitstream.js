// The .skf container: header, three sections, checksums. Twin of sketchfusion_lite/bitstream.py, with keep_going.
// Nothing is believed before it is checked, and nothing larger than the data at hand is ever allocated.

export const SECTIONS = ["hyper", "structure", "tone"];
export const MAX_PIXELS = 1 << 24; // of this page; Python's default is 2^26
const VERSION = 1, WORD = 4, MAX_SIDE = 1 << 20, WORDS_PER_BLOCK = 512;
const SIDE_BYTES = 3, LENGTH_BYTES = 4; // longest varints
const MIN_HEAD = 5 + 5 + 2; // fixed fields, a byte per varint, checksum

/** What is wrong with a stream; `name` is that of Python's class, and the message is Python's. */
export class StreamError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = kind;
  }
}

/** CRC-16/CCITT-FALSE of bytes, going on from `crc`. */
function crc16(bytes, crc) {
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}

const u16 = (data, at) => data[at] | (data[at + 1] << 8);

export const hexId = (id) => id.toString(16).padStart(4, "0");

/**
 * Take a stream apart.
 * @param {Uint8Array} data the whole file, or its start.
 * @returns {{width, height, qualityIndex, quality, modelId, payload, missing, damaged, sectionBytes}} `missing` are
 *   sections cut off, damaged or behind such a one; `payload` is the usable start of the rANS stream.
 * @throws {StreamError}
 */
export function parse(data, name = "stream", maxPixels = MAX_PIXELS) {
  const head = parseHeader(data, name);
  const { width, height, words, size } = head;
  let end = size + 2 + WORD * words[0];
  if (data.length < end) throw truncated(data.length, end, "hyper section", name);
  const hyper = data.subarray(size + 2, end);
  let crc = crc16(hyper, crc16(data.subarray(0, size), 0xffff));
  if (u16(data, size) !== crc) {
    throw new StreamError("CorruptStream",
      `${name}: the header or hyper section is damaged (checksum differs). Fetch the file again.`);
  }
  if (width * height > maxPixels) {
    throw new StreamError("UnsupportedStream", `${name}: holds a picture of ${width}x${height} = ${width * height} ` +
      `pixels, over the limit of ${maxPixels}. If you trust it, decode it with the command line.`);
  }
  const total = end + words.slice(1).reduce((sum, count) => sum + (count ? WORD * count + 2 : 0), 0);
  if (data.length > total) {
    throw new StreamError("CorruptStream", `${name}: ${data.length - total} bytes follow the end of the stream at ` +
      `byte ${total}. Remove them or fetch the file again.`);
  }
  const sectionBytes = { header: size, crc: 2, hyper: hyper.length }, usable = [hyper], missing = [], damaged = [];
  for (const [section, count] of [["structure", words[1]], ["tone", words[2]]]) {
    const content = data.subarray(end, end + WORD * count), at = end + WORD * count;
    end = count ? at + 2 : at;
    sectionBytes[section] = content.length;
    if (count) sectionBytes.crc += Math.max(0, Math.min(2, data.length - at));
    crc = crc16(content, crc);
    if (missing.length || data.length < end) missing.push(section);
    else if (count && u16(data, at) !== crc) {
      missing.push(section);
      damaged.push(section);
    } else usable.push(content);
  }
  const payload = new Uint8Array(usable.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of usable) {
    payload.set(part, at);
    at += part.length;
  }
  return { ...head, payload, missing, damaged, sectionBytes };
}

function parseHeader(data, name) {
  if ((data.length > 0 && data[0] !== 0x53) || (data.length > 1 && data[1] >> 4 !== 0xf)) {
    const start = [...data.subarray(0, 2)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    throw new StreamError("NotAStream",
      `${name}: not a .skf stream (it starts with ${start}). Pass a file made by \`sketchfusion encode\`.`);
  }
  if (data.length > 1 && (data[1] & 0x0f) !== VERSION) {
    throw new StreamError("UnsupportedStream", `${name}: format version ${data[1] & 0x0f}; this release reads ` +
      `version ${VERSION}. Install the release that made the file.`);
  }
  if (data.length < 5) throw truncated(data.length, MIN_HEAD, "header", name);
  let offset = 5;

  /** An unsigned LEB128 number in its shortest form. */
  function varint(longest, field) {
    let value = 0;
    for (let index = 0; index < longest; index++, offset++) {
      if (offset >= data.length) throw truncated(data.length, Math.max(MIN_HEAD, offset + 1), "header", name);
      const byte = data[offset];
      value |= (byte & 0x7f) << (7 * index);
      if (byte < 0x80) {
        if (byte === 0 && index > 0) throw impossible(name, `${field} (a varint longer than necessary)`);
        offset++;
        return value;
      }
    }
    throw impossible(name, `${field} (a varint of more than ${longest} bytes)`);
  }

  const [width, height] = ["width", "height"].map((field) => {
    const side = varint(SIDE_BYTES, field);
    if (side < 1 || side > MAX_SIDE) throw impossible(name, `${field}=${side}, outside 1 to ${MAX_SIDE}`);
    return side;
  });
  const blocks = Math.ceil(width / 64) * Math.ceil(height / 64);
  const limit = Math.min(WORDS_PER_BLOCK * blocks, 2 ** (7 * LENGTH_BYTES) - 1);
  const words = SECTIONS.map((section) => {
    const count = varint(LENGTH_BYTES, `${section} length`);
    if (count > limit) {
      throw impossible(name, `${section} length=${count} words, over the ${limit} that a ${width}x${height} picture allows`);
    }
    return count;
  });
  const qualityIndex = data[4], quality = (qualityIndex * 5) / 255;
  return { width, height, qualityIndex, quality, modelId: u16(data, 2), words, size: offset };
}

const truncated = (arrived, needed, what, name) => new StreamError("TruncatedStream",
  `${name}: the stream ends inside its ${what}: ${arrived} bytes arrived, at least ${needed} are needed to decode ` +
  "anything. Fetch the rest of the file.");

const impossible = (name, what) =>
  new StreamError("CorruptStream", `${name}: impossible field ${what}. Fetch the file again.`);
