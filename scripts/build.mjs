// Builds the addon and the command line with one cargo call, and refreshes binding.js and binding.d.ts.
//
// The root package has no `-p` on purpose: cargo then builds the default members, so that addon and binary come
// from the same compiled dependencies. What napi hands to cargo carries an explicit target; cargo's own calls in this
// repository carry the same one, or everything would be compiled twice.
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createRequire } from 'node:module'
import { hostTarget, platformOf, root } from './shared.mjs'

const release = process.argv.includes('--release')
const cli = createRequire(import.meta.url).resolve('@napi-rs/cli/package.json')
const napi = join(cli, '..', 'dist', 'cli.js')
const args = ['build', '--platform', '--js', 'binding.js', '--dts', 'binding.d.ts', ...(release ? ['--release'] : [])]
const locked = process.env.CI ? ['--', '--locked'] : []

const { status } = spawnSync(process.execPath, [napi, ...args, ...locked], { cwd: root, stdio: 'inherit' })
if (status !== 0) process.exit(status ?? 1)
