// Builds the addon and the command line with one cargo call, and refreshes binding.js and binding.d.ts.
//
//   node scripts/build.mjs [--release] [--target TRIPLE]
//
// No `-p`: cargo then builds the workspace's default members, so that addon and binary are made from the same compiled
// dependencies. napi always gives cargo an explicit target; cargo's own calls in this repository give the same one.
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from './shared.mjs'

const { values } = parseArgs({ options: { release: { type: 'boolean' }, target: { type: 'string' } } })
const cli = dirname(createRequire(import.meta.url).resolve('@napi-rs/cli/package.json'))
const args = ['build', '--platform', '--js', 'binding.js', '--dts', 'binding.d.ts']
if (values.release) args.push('--release')
if (values.target) args.push('--target', values.target)
if (process.env.CI) args.push('--', '--locked')
run(process.execPath, [join(cli, 'dist', 'cli.js'), ...args])
