// A real browser for the pages: Debian's Chromium, driven without a download of its own.
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { chromium } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser's file: named by the environment, else where packages put it; undefined when there is none. */
export const file = process.env.TOLLGATE_TEST_CHROMIUM ?? PLACES.find((place) => existsSync(place));

export const openBrowser = () => chromium.launch({ executablePath: file, headless: true });

/** Keeps a picture of a page in the folder that `TOLLGATE_SCREENSHOTS` names, for people to look at. */
export async function picture(page, name) {
  const folder = process.env.TOLLGATE_SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
}
