// The code of a guide, as files: what the guide shows is what runs.
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const guides = fileURLToPath(new URL("../../docs/guide/", import.meta.url));
const packages = fileURLToPath(new URL("../node_modules", import.meta.url));

/** A guide's blocks of one language. */
export async function blocks(guide, language) {
  const text = await readFile(path.join(guides, guide), "utf8");
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, code]) => code);
}

/** A folder with a guide's files, each named by the block's first line (`// app.mjs`), and with the packages here. */
export async function filesOf(guide) {
  const folder = await mkdtemp(path.join(os.tmpdir(), "tollgate-guide-"));
  for (const code of await blocks(guide, "js")) {
    const name = /^\/\/ (\S+\.mjs)\n/.exec(code)?.[1];
    if (name) await writeFile(path.join(folder, name), code);
  }
  await symlink(packages, path.join(folder, "node_modules"));
  return { folder, drop: () => rm(folder, { recursive: true, force: true }) };
}
