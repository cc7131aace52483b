// What the files view says, in English and Chinese.

const WORDS = {
  en: {
    title: "Files",
    hint: "Drop audio or video here: wav, flac, mp3, ogg, opus, m4a, mp4, webm. It stays on this box.",
    choose: "Choose files",
    list: "Files",
    waiting: () => "Waiting",
    full: (s) => `The box is busy; trying again in ${s} s`,
    sending: (percent) => `Uploading ${percent} %`,
    reading: (percent) => (percent === null ? "Transcribing" : `Transcribing ${percent} %`),
    done: (took, length) => `${length} of audio in ${took}`,
    silent: "No speech found",
    cancelled: () => "Cancelled",
    unreachable: () => "The box could not be reached. Try again.",
    answered: (status) => `The box answered ${status}.`,
    cutShort: () => "The answer was cut short. Try again.",
    cancel: "Cancel",
    again: "Try again",
    remove: "Remove",
    copy: "Copy",
    copied: "Copied",
    named: (verb, name) => `${verb}: ${name}`,
    progress: (name) => `Progress of ${name}`,
    save: (kind) => `Save as ${kind}`,
    text: (name) => `Text of ${name}`,
  },
  zh: {
    title: "文件",
    hint: "把音频或视频拖到这里：wav、flac、mp3、ogg、opus、m4a、mp4、webm。文件只留在本机。",
    choose: "选择文件",
    list: "文件",
    waiting: () => "等待中",
    full: (s) => `设备正忙，${s} 秒后重试`,
    sending: (percent) => `正在上传 ${percent} %`,
    reading: (percent) => (percent === null ? "正在转写" : `正在转写 ${percent} %`),
    done: (took, length) => `音频 ${length}，用时 ${took}`,
    silent: "没有检测到语音",
    cancelled: () => "已取消",
    unreachable: () => "无法连接设备，请重试。",
    answered: (status) => `设备返回了 ${status}。`,
    cutShort: () => "结果不完整，请重试。",
    cancel: "取消",
    again: "重试",
    remove: "移除",
    copy: "复制",
    copied: "已复制",
    named: (verb, name) => `${verb}：${name}`,
    progress: (name) => `${name} 的进度`,
    save: (kind) => `保存为 ${kind}`,
    text: (name) => `${name} 的文本`,
  },
};

/** The words of the page's language. */
export const words = () => (document.documentElement.lang.startsWith("zh") ? WORDS.zh : WORDS.en);

/** Calls `change` whenever the page's language changes. */
export function onLanguage(change) {
  const watcher = new MutationObserver(change);
  watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["lang"] });
}
