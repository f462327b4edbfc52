// Sends a photo to the kernel as a message. A message is no state: the photo is saved with no notebook.
const LARGEST = 6e6; // bytes; a Jupyter server closes the connection for messages of more than ten million
const SIDE = 1024; // pixels of the shorter side of a photo that was made smaller

async function smaller(file) {
  const bitmap = await createImageBitmap(file); // upright, as its EXIF orientation says
  const scale = Math.min(1, SIDE / Math.min(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
}

function render({ model, el }) {
  const label = document.createElement("label");
  label.style.cssText = "display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px;margin:2px;font-size:13px;line-height:28px";
  const input = document.createElement("input");
  input.type = "file";
  input.accept = model.get("accept");
  input.style.cssText = "font:inherit;color:inherit;max-width:100%";
  label.append(model.get("label"), input);
  el.append(label);

  input.addEventListener("click", () => { input.value = ""; }); // the same file again is a new choice
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    try {
      const photo = file.size > LARGEST ? await smaller(file) : file;
      model.send("photo", undefined, [await photo.arrayBuffer()]);
    } catch {
      model.send("too large"); // and no picture that this browser can make smaller
    }
  });
}

export default { render };
