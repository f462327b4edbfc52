// Shows a picture that the kernel sends as a message. A message is no state: the picture is saved with no notebook.
function render({ model, el }) {
  const image = document.createElement("img");
  image.style.cssText = "max-width:100%;height:auto;display:block";
  image.hidden = true;
  el.append(image);

  function show(message, buffers) {
    URL.revokeObjectURL(image.src);
    image.hidden = buffers.length === 0;
    image.alt = message.alt;
    image.src = image.hidden ? "" : URL.createObjectURL(new Blob([buffers[0]], { type: "image/jpeg" }));
  }

  model.on("msg:custom", show);
  model.send("ready"); // the kernel answers with what it showed last
  return () => model.off("msg:custom", show);
}

export default { render };
