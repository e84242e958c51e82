"use strict";
const find = (id) => document.getElementById(id);

function readShelf(shelf) {
  // what this browser remembers; null where it may not remember anything
  try {
    localStorage.setItem(shelf, localStorage.getItem(shelf) || "{}");
    return JSON.parse(localStorage.getItem(shelf));
  } catch {
    return null;
  }
}

function writeShelf(shelf, value) {
  try {
    localStorage.setItem(shelf, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
