// A finished transcription as txt, srt, vtt and json.

/** Ending -> media type and how the result is written. */
export const EXPORTS = {
  txt: { type: "text/plain", write: ({ text }) => `${text}\n` },
  srt: { type: "application/x-subrip", write: ({ segments }) => srt(segments) },
  vtt: { type: "text/vtt", write: ({ segments }) => vtt(segments) },
  json: { type: "application/json", write: (result) => `${JSON.stringify(result, null, 2)}\n` },
};

/** Offer a result for saving under the name of its file. */
export function save(name, kind, result) {
  const { type, write } = EXPORTS[kind];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write(result)], { type: `${type};charset=utf-8` }));
  link.download = `${name.replace(/\.[^.]*$/, "") || name}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function srt(segments) {
  const cues = segments.map(
    ({ start, end, text }, i) => `${i + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${text}\n`,
  );
  return cues.join("\n");
}

function vtt(segments) {
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const cues = segments.map(
    ({ start, end, text }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${escaped(text)}\n`,
  );
  return ["WEBVTT\n", ...cues].join("\n");
}

function stamp(seconds, point) {
  const ms = Math.round(seconds * 1000);
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const rest = String(ms % 1000).padStart(3, "0");
  return `${two(ms / 3600000)}:${two((ms / 60000) % 60)}:${two((ms / 1000) % 60)}${point}${rest}`;
}
