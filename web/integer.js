// The entropy model in integers, twin of sketchfusion_lite/integer.py. Weights and activations have 16 bits, sums stay
// below 2^44, and a double holds integers exactly up to 2^53: so any order of summation gives what Python gives.

const UNIT = 256; // activations are integers in units of 1/256
const LIMIT = 2 ** 15 - 1;
const SCALE_LEVELS = 64;
const PER_Y = UNIT / 8; // the latent is in units of 1/8

const ARRAYS = { I16: Int16Array, I32: Int32Array, I64: BigInt64Array };

/** Tensors of a safetensors file: name -> {data, shape}. */
export function readTensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  return Object.fromEntries(Object.entries(header).map(([name, { dtype, shape, data_offsets: [start, end] }]) =>
    [name, { shape, data: new ARRAYS[dtype](buffer.slice(8 + length + start, 8 + length + end)) }]));
}

const clip = (value) => Math.min(LIMIT, Math.max(-LIMIT, value));

/** Leaky ReLU of slope 1/8, in place. */
function leaky(values) {
  for (let i = 0; i < values.length; i++) if (values[i] < 0) values[i] = Math.floor(values[i] / 8);
  return values;
}

/** A convolution in fixed point, computed at chosen places only. */
class IntegerConv {
  constructor(tensors, prefix) {
    const { shape, data } = tensors[`${prefix}.weight`];
    [this.outputs, this.inputs, this.kernel] = shape;
    this.size = this.inputs * this.kernel ** 2;
    // Four outputs are summed at a time; rows of zeros fill the last four.
    this.weight = new Float64Array(4 * Math.ceil(this.outputs / 4) * this.size);
    this.weight.set(data);
    this.bias = Float64Array.from(tensors[`${prefix}.bias`].data, Number);
    this.shift = Number(tensors[`${prefix}.shift`].data[0]);
  }

  /** Divide by 2^shift, round half up, clip to 16 bits. */
  requantise(sum) {
    return clip(Math.floor((sum + 2 ** (this.shift - 1)) / 2 ** this.shift));
  }

  /** Planes (inputs, height, width), zeros around them -> (outputs, places), all places without a list. */
  at(planes, height, width, places = null) {
    const { outputs, size, weight, bias } = this, count = places ? places.length : height * width;
    const result = new Float64Array(outputs * count), patch = new Float64Array(size), sums = new Float64Array(4);
    for (let n = 0; n < count; n++) {
      this.gather(patch, planes, height, width, places ? places[n] : n);
      for (let first = 0; first < outputs; first += 4) {
        let a = 0, b = 0, c = 0, d = 0;
        for (let i = 0, at = first * size; i < size; i++, at++) {
          const value = patch[i];
          a += value * weight[at];
          b += value * weight[at + size];
          c += value * weight[at + 2 * size];
          d += value * weight[at + 3 * size];
        }
        sums[0] = a; sums[1] = b; sums[2] = c; sums[3] = d;
        for (let i = 0; i < 4 && first + i < outputs; i++) {
          result[(first + i) * count + n] = this.requantise(sums[i] + bias[first + i]);
        }
      }
    }
    return result;
  }

  /** What the convolution sees from one place: (inputs, kernel, kernel). */
  gather(patch, planes, height, width, place) {
    const { inputs, kernel } = this, area = height * width, reach = kernel >> 1;
    if (kernel === 1) {
      for (let i = 0; i < inputs; i++) patch[i] = planes[i * area + place];
      return;
    }
    const top = Math.floor(place / width) - reach, left = (place % width) - reach;
    let to = 0;
    for (let i = 0; i < inputs; i++) {
      for (let y = top; y < top + kernel; y++) {
        for (let x = left; x < left + kernel; x++) {
          const inside = y >= 0 && y < height && x >= 0 && x < width;
          patch[to++] = inside ? planes[i * area + y * width + x] : 0;
        }
      }
    }
  }
}

/** (4C, height, width) -> (C, 2 height, 2 width), cut to `rows` x `columns`. */
function shuffle(planes, height, width, rows = 2 * height, columns = 2 * width) {
  const channels = planes.length / (4 * height * width), result = new Float64Array(channels * rows * columns);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const from = 4 * c + 2 * (y & 1) + (x & 1);
        result[(c * rows + y) * columns + x] = planes[(from * height + (y >> 1)) * width + (x >> 1)];
      }
    }
  }
  return result;
}

const columnsOf = (planes, area, places) => {
  const count = places.length, result = new Float64Array((planes.length / area) * count);
  for (let c = 0; c < planes.length / area; c++) {
    for (let n = 0; n < count; n++) result[c * count + n] = planes[c * area + places[n]];
  }
  return result;
};

/** Append typed arrays. */
function join(first, second) {
  const result = new Float64Array(first.length + second.length);
  result.set(first);
  result.set(second, first.length);
  return result;
}

/** Predicts coding tables from an export of `sketchfusion export-web`. */
export class IntegerEntropyModel {
  constructor(buffer) {
    const tensors = readTensors(buffer), net = (name, layers) =>
      Object.fromEntries(layers.map((layer) => [layer, new IntegerConv(tensors, `${name}.${layer}`)]));
    const context = ["context", "mix", "hidden", "head"];
    this.synthesis = net("synthesis", ["conv1", "up1", "conv2", "up2"]);
    this.contexts = { structure: net("structure_context", context) };
    if ("tone_context.head.weight" in tensors) this.contexts.tone = net("tone_context", context);
    this.hyperChannels = this.synthesis.conv1.inputs - 1;
    this.channels = Object.fromEntries(Object.entries(this.contexts).map(([g, n]) => [g, n.head.outputs / 2]));
    const { data, shape: [rows, longest] } = tensors["tables.cdf"];
    this.lengths = tensors["tables.length"].data;
    this.offsets = tensors["tables.offset"].data;
    this.cdfs = Array.from({ length: rows }, (_, row) => data.subarray(row * longest, (row + 1) * longest));
  }

  /** Bits that the likeliest hyper symbols take, for one place of the hyper latent. */
  leastBits() {
    const best = (row) => {
      const cdf = this.cdfs[row];
      let most = 1;
      for (let i = 1; i < this.lengths[row]; i++) most = Math.max(most, cdf[i] - cdf[i - 1]);
      return 16 - Math.log2(most);
    };
    return Array.from({ length: this.hyperChannels }, (_, row) => best(row)).reduce((sum, bits) => sum + bits, 0);
  }

  /** Hyper features (P, height, width) of hyper symbols (Z, ceil(height / 4), ceil(width / 4)). */
  psi(hyper, qualityIndex, height, width) {
    const { conv1, up1, conv2, up2 } = this.synthesis, h = Math.ceil(height / 4), w = Math.ceil(width / 4);
    const plane = new Float64Array(h * w).fill(Math.floor((qualityIndex * 5 * UNIT + 127) / 255));
    let x = leaky(conv1.at(join(hyper.map((value) => clip(value * UNIT)), plane), h, w));
    x = leaky(shuffle(up1.at(x, h, w), h, w));
    x = leaky(conv2.at(x, 2 * h, 2 * w));
    return shuffle(up2.at(x, 2 * h, 2 * w), 2 * h, 2 * w, height, width);
  }

  /**
   * Means in units of 1/8 and table indices 0 to 63, each (C, places), of a group at some places.
   * @param known decoded values (K, height, width) in units of 1/8, zero where unknown; null if nothing is.
   * @param seen 1 where this group is known (height, width), else 0.
   */
  predict(group, psi, known, seen, height, width, places) {
    const { context, mix, hidden, head } = this.contexts[group], count = places.length;
    let around;
    if (known) {
      around = context.at(join(known.map((value) => clip(value * PER_Y)), seen.map((bit) => bit * UNIT)), height, width, places);
    } else { // the convolution of zeros is its bias
      around = new Float64Array(context.outputs * count);
      context.bias.forEach((bias, c) => around.fill(context.requantise(bias), c * count, (c + 1) * count));
    }
    let x = join(leaky(around), columnsOf(psi, height * width, places));
    x = leaky(mix.at(x, 1, count));
    x = leaky(hidden.at(x, 1, count));
    const rounded = head.at(x, 1, count).map((value) => Math.floor((value + 16) / 32));
    const means = rounded.subarray(0, rounded.length / 2), indices = rounded.subarray(rounded.length / 2);
    return { means, indices: indices.map((index) => Math.min(SCALE_LEVELS - 1, Math.max(0, index))) };
  }
}
