/* A divider between two of a photo's pictures. Without this script the pictures stand side by side. */
"use strict";

for (const root of document.querySelectorAll(".ba")) {
  const pictures = [...root.querySelectorAll(".ba-all figure")].map((figure) => ({
    image: figure.querySelector("img"),
    label: figure.querySelector("strong").textContent,
    numbers: figure.querySelector("figcaption").lastChild.textContent,
  }));
  const stage = root.querySelector(".ba-stage");
  const range = root.querySelector(".ba-range");
  const sides = [
    { choice: root.querySelector(".ba-left"), place: root.querySelector(".ba-under") },
    { choice: root.querySelector(".ba-right"), place: root.querySelector(".ba-over") },
  ];
  const chosen = (side) => pictures[Number(side.choice.value)];

  const show = (side) => {
    const image = chosen(side).image.cloneNode();
    image.loading = "eager";
    image.draggable = false;
    const tag = document.createElement("span");
    tag.className = "ba-tag";
    tag.textContent = chosen(side).label;
    side.place.replaceChildren(image, tag);
    root.querySelector(".ba-numbers").innerText = sides
      .map((each) => `${chosen(each).label}: ${chosen(each).numbers}`)
      .join("\n");
    move();
  };

  const move = () => {
    const left = Number(range.value);
    stage.style.setProperty("--split", `${left}%`);
    const [before, after] = sides.map((side) => chosen(side).label);
    range.setAttribute("aria-valuetext", `${left} % ${before}, ${100 - left} % ${after}`);
  };

  range.addEventListener("input", move);
  for (const side of sides) side.choice.addEventListener("change", () => show(side));
  sides.forEach(show);
  root.querySelector(".ba-frame").hidden = false;
  root.classList.add("ba-live");
}
