/* A divider between two of a photo's pictures. Without this script the pictures stand side by side. */
"use strict";

for (const root of document.querySelectorAll(".ba")) {
  const pictures = [...root.querySelectorAll(".ba-all figure")].map((figure) => ({
    image: figure.querySelector("img"),
    label: figure.querySelector("strong").textContent,
    numbers: figure.querySelector("figcaption").lastChild.textContent,
  }));
  const choice = (side) => `<label>${side[0].toUpperCase()}${side.slice(1)} of the divider
    <select class="ba-${side}">${pictures.map((p, n) => `<option value="${n}">${p.label}</option>`).join("")}</select></label>`;
  root.insertAdjacentHTML("afterbegin", `<div class="ba-frame">
    <div class="ba-choices">${choice("left")}${choice("right")}</div>
    <div class="ba-stage"><div class="ba-under"></div><div class="ba-over"></div><span class="ba-line"></span>
    <input class="ba-range" type="range" value="50" aria-label="Divider of the photo ${root.dataset.name}"></div>
    <p class="ba-numbers" aria-live="polite"></p></div>`);
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
  sides[0].choice.value = 1;
  sides[1].choice.value = pictures.length - 1;
  sides.forEach(show);
  root.classList.add("ba-live");
}
