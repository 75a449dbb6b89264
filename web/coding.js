// From the words of a rANS stream to the latent, in four passes; twin of sketchfusion_lite/coding.py.
// structure: anchors (the black fields of a checkerboard), the others; tone: anchors, the others.

import { StreamError } from "./bitstream.js";
import { RansDecoder } from "./rans.js";

const SYMBOL_LIMIT = 2 ** 13;
const END_MARK = 0x00010001; // behind a whole stream: read as two ones, if the coder is back in its first state
const END_TABLE = [0, 1, 2, 65535, 65536];

/**
 * Decode group by group, as much as arrived; predicted means stand in for what did not.
 * @param {IntegerEntropyModel} model
 * @param stream what `parse` returned.
 * @yields {{group, units}} units of 1/8, (C, height, width), of all groups so far.
 * @throws {StreamError} no encoder writes such a payload.
 */
export function* decodeLatent(model, stream, name = "stream") {
  const height = Math.ceil(stream.height / 16), width = Math.ceil(stream.width / 16), area = height * width;
  const hyperArea = Math.ceil(height / 4) * Math.ceil(width / 4), { payload, missing } = stream;
  const least = model.leastBits() * hyperArea; // a few bytes shall not claim the memory of a large picture
  if (8 * payload.length < 0.99 * least) {
    throw forged(name, `${payload.length} bytes for a picture that takes ${Math.round(least / 8)} at least`);
  }
  const coder = new RansDecoder(payload, missing.length ? [] : [END_MARK]);

  const read = (row) => {
    const symbol = coder.symbol(model.cdfs[row], model.lengths[row], model.offsets[row]);
    if (Math.abs(symbol) > SYMBOL_LIMIT) throw forged(name, `a symbol beyond ${SYMBOL_LIMIT}`);
    return symbol;
  };

  const hyper = Float64Array.from({ length: model.hyperChannels * hyperArea }, (_, i) => read(Math.floor(i / hyperArea)));
  const psi = model.psi(hyper, stream.qualityIndex, height, width);
  const all = Int32Array.from({ length: area }, (_, place) => place);
  const isAnchor = (place) => (Math.floor(place / width) + (place % width)) % 2 === 0;
  const anchors = Float64Array.from(all, (place) => Number(isAnchor(place))), nowhere = new Float64Array(area);
  const first = all.filter(isAnchor), second = all.filter((place) => !isAnchor(place));

  let start = 0; // of this group's channels
  const groups = Object.keys(model.channels);
  const latent = new Float64Array(groups.reduce((sum, group) => sum + model.channels[group], 0) * area);
  for (const group of groups) {
    const stop = start + model.channels[group], known = latent.subarray(0, stop * area);
    const coded = !missing.includes(group);
    for (const [places, seen] of coded ? [[first, nowhere], [second, anchors]] : [[all, nowhere]]) {
      const blind = start === 0 && seen === nowhere;
      const { means, indices } = model.predict(group, psi, blind ? null : known, seen, height, width, places);
      for (let i = 0; i < means.length; i++) {
        const at = (start + Math.floor(i / places.length)) * area + places[i % places.length];
        latent[at] = means[i] + (coded ? 8 * read(indices[i] + model.hyperChannels) : 0);
      }
    }
    start = stop;
    if (group === groups.at(-1) && !missing.length) {
      const end = [0, 1, 1].map(() => coder.symbol(END_TABLE, END_TABLE.length, 0));
      if (end.join() !== "0,1,1") throw forged(name, "an end that does not fit its symbols");
    }
    yield { group, units: known };
  }
}

const forged = (name, what) => new StreamError("CorruptStream",
  `${name}: the entropy-coded data hold ${what}: damaged, or not written by this codec. Fetch the file again.`);
