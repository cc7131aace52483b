// The wire form of audio: 8-byte little-endian index of the first sample, then s16le samples.

const HEADER_BYTES = 8;
const SAMPLE_BYTES = 2;

/** ArrayBuffer of one frame; `first` counts from the start of the session. */
export function encodeFrame(first, samples) {
  const frame = new ArrayBuffer(HEADER_BYTES + samples.length * SAMPLE_BYTES);
  const view = new DataView(frame);
  view.setBigUint64(0, BigInt(first), true);
  for (let i = 0; i < samples.length; i += 1) {
    view.setInt16(HEADER_BYTES + i * SAMPLE_BYTES, samples[i], true);
  }
  return frame;
}
