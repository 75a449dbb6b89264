// The rANS decoder of CompressAI (64 bits of state, 32-bit words, 16-bit frequencies), bit for bit.
// The state is kept as two halves of 32 bits: every product and sum below stays under 2^53, so doubles are exact.
// Duda, "Asymmetric numeral systems", arXiv:1311.2540; Giesen, "ryg_rans".

const TWO_32 = 2 ** 32, LOWEST = 2 ** 31; // below this the state takes in another word
const DIGIT = 4; // bits of an escaped symbol that are read at a time

export class RansDecoder {
  /** @param {Uint8Array} payload @param {number[]} tail words behind it; after these come zeros, as many as are asked for. */
  constructor(payload, tail = []) {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const count = payload.length >> 2;
    this.words = Uint32Array.from({ length: count + tail.length },
      (_, i) => (i < count ? view.getUint32(4 * i, true) : tail[i - count]));
    this.next = 0;
    this.low = this.word();
    this.high = this.word();
  }

  word() {
    return this.next < this.words.length ? this.words[this.next++] : 0;
  }

  refill() {
    if (this.high === 0 && this.low < LOWEST) {
      this.high = this.low;
      this.low = this.word();
    }
  }

  /** `bits` equally likely bits. */
  bits(bits) {
    const value = this.low & ((1 << bits) - 1);
    this.low = ((this.low >>> bits) | (this.high << (32 - bits))) >>> 0;
    this.high >>>= bits;
    this.refill();
    return value;
  }

  /** One symbol of a table: cumulative frequencies `cdf[0] = 0` to `cdf[length - 1] = 2^16`; the last one escapes. */
  symbol(cdf, length, offset) {
    const slot = this.low & 0xffff;
    let below = 0, above = length - 1; // cdf[below] <= slot < cdf[above]
    while (above - below > 1) {
      const middle = (below + above) >> 1;
      if (cdf[middle] <= slot) below = middle;
      else above = middle;
    }
    const start = cdf[below], frequency = cdf[below + 1] - start;
    // state = frequency * (state >> 16) + slot - start
    const upper = this.high >>> 16, lower = ((this.high << 16) | (this.low >>> 16)) >>> 0;
    const sum = frequency * lower + slot - start; // < 2^49
    this.low = sum >>> 0;
    this.high = (frequency * upper + Math.floor(sum / TWO_32)) >>> 0;
    this.refill();
    return (below === length - 2 ? this.escaped(below) : below) + offset;
  }

  /** A value outside the table: how many digits, then the digits. */
  escaped(top) {
    let digit, digits = 0, value = 0;
    do {
      digit = this.bits(DIGIT);
      digits += digit;
    } while (digit === 2 ** DIGIT - 1);
    for (let i = 0; i < digits; i++) value |= this.bits(DIGIT) << (DIGIT * i);
    return value & 1 ? -(value >> 1) - 1 : (value >> 1) + top;
  }
}
