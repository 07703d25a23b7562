// What the scripts share: where things are, and how platforms are called.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'

export const root = fileURLToPath(new URL('..', import.meta.url))

export const readJson = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'))

const npmNames = { x86_64: 'x64', aarch64: 'arm64' }

/** The npm name of a Rust target: `x86_64-unknown-linux-gnu` is `linux-x64-gnu`. */
export function platformOf(target) {
  const [arch, , system, libc] = target.split('-')
  const cpu = npmNames[arch] ?? arch
  return { platform: `${system}-${cpu}-${libc}`, os: system, cpu, libc: libc === 'gnu' ? 'glibc' : libc }
}

/** The Rust target of this machine. */
export function hostTarget() {
  return /^host: (.+)$/m.exec(execFileSync('rustc', ['-vV'], { encoding: 'utf8' }))[1]
}

/** Runs a program in the repository and ends with its status when it fails. */
export function run(program, args) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit' })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}

/** Ends with these complaints, if there are any. */
export function complain(complaints, fine) {
  for (const complaint of complaints) console.error(`error: ${complaint}`)
  if (complaints.length > 0) process.exit(1)
  console.log(fine)
}
