import { h } from "./dom.js";

/** Whether this page may ask for a camera. */
export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/** Open the camera in a dialog inside `root`; resolves with a JPEG File, or null when the visitor closes it. */
export async function takePhoto(root, say) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(cameraSentence(error));
    return null;
  }
  const video = h("video", { autoplay: true, playsinline: true, muted: true, "aria-label": "What the camera sees" });
  video.muted = true;
  video.srcObject = stream;
  const shoot = h("button.primary", { type: "button" }, "Take photo");
  const close = h("button", { type: "button" }, "Cancel");
  const dialog = h("dialog.camera", { "aria-label": "Camera" }, video, h("div.row", {}, shoot, close));
  root.append(dialog);
  dialog.showModal();
  try {
    return await new Promise((resolve) => {
      shoot.addEventListener("click", () => frameOf(video).then(resolve));
      close.addEventListener("click", () => resolve(null));
      dialog.addEventListener("cancel", () => resolve(null));
    });
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    dialog.close();
    dialog.remove();
  }
}

async function frameOf(video) {
  const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  return blob && new File([blob], `camera ${new Date().toTimeString().slice(0, 8).replaceAll(":", "-")}.jpg`, { type: blob.type });
}

function cameraSentence(error) {
  if (error.name === "NotAllowedError") return "The camera is switched off for this page: allow it in the browser's address bar.";
  if (error.name === "NotFoundError") return "No camera was found: choose a photo instead.";
  return "The camera can't be used here: choose a photo instead.";
}
