// The package as npm packs it, beside the packages of a fixture that setup.sh installed outside of the repository: some
// tools look for configurations in the folders above.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cache } from "../../tools/cache.mjs";

const web = fileURLToPath(new URL("../..", import.meta.url));

/**
 * The folder of a fixture, with its files and the package; null where its packages are not installed.
 * @param {string} name @param {string} from where its files are @param {string[]} files
 */
export function install(name, from, files) {
  const folder = join(cache, "tools", name);
  if (!existsSync(join(folder, "installed"))) return null;
  const made = mkdtempSync(join(tmpdir(), "pagelm-pack-"));
  try {
    const pack = ["pack", "--json", "--ignore-scripts", "--pack-destination", made];
    const [{ filename }] = JSON.parse(execFileSync("npm", pack, { cwd: web, encoding: "utf8" }));
    execFileSync("tar", ["xzf", join(made, filename), "-C", made]);
    rmSync(join(folder, "node_modules/pagelm"), { recursive: true, force: true });
    cpSync(join(made, "package"), join(folder, "node_modules/pagelm"), { recursive: true });
  } finally {
    rmSync(made, { recursive: true });
  }
  for (const file of files) cpSync(join(from, file), join(folder, file), { recursive: true });
  return folder;
}
