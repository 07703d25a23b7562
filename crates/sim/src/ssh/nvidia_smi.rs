//! An `nvidia-smi` that answers for the rented GPUs.

use crate::api::Container;
use std::fmt::Write as _;

/// The driver that the pretended machine has.
const DRIVER: &str = "550.127.05";
const CUDA: &str = "12.4";

/// The script: the plain table, `-L`, and `--query-gpu=… --format=csv[,noheader][,nounits]`.
pub(crate) fn script(container: &Container) -> String {
    let count = container.num_gpus;
    let gpu = container.gpu;
    let mut uuids = String::new();
    for index in 0..count {
        let seed = container.id.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(u64::from(index));
        let _ = writeln!(
            uuids,
            "    {index}) uuid=GPU-{:08x}-{:04x}-{:04x}-{:04x}-{:012x} ;;",
            seed >> 32,
            (seed >> 16) & 0xFFFF,
            seed & 0xFFFF,
            (seed >> 8) & 0xFFFF,
            seed & 0xFFFF_FFFF_FFFF
        );
    }
    SCRIPT
        .replace("@COUNT@", &count.to_string())
        .replace("@NAME@", gpu.driver_name)
        .replace("@MEMORY@", &gpu.memory_mib.to_string())
        .replace("@POWER@", &gpu.max_power.to_string())
        .replace("@CAP@", &format!("{}.{}", gpu.compute_cap / 100, gpu.compute_cap % 100 / 10))
        .replace("@DRIVER@", DRIVER)
        .replace("@CUDA@", CUDA)
        .replace("@UUIDS@", uuids.trim_end())
}

const SCRIPT: &str = r#"#!/bin/sh
# The simulator's stand-in for the driver's tool.
count=@COUNT@ name='@NAME@' memory=@MEMORY@ power=@POWER@ cap=@CAP@ driver=@DRIVER@ cuda=@CUDA@
query= format= list= only=
uuid_of() {
  case $1 in
@UUIDS@
  esac
}
while [ $# -gt 0 ]; do
  case $1 in
    -L|--list-gpus) list=1 ;;
    --query-gpu=*) query=${1#*=} ;;
    --format=*) format=${1#*=} ;;
    -i|--id) only=$2; shift ;;
    -i=*|--id=*) only=${1#*=} ;;
    --version) echo "NVIDIA-SMI version  : $driver (simulated)"; exit 0 ;;
    -h|--help) echo "NVIDIA-SMI -- v$driver (simulated): -L, --query-gpu=FIELDS --format=csv[,noheader][,nounits]"; exit 0 ;;
    *) echo "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help."; exit 1 ;;
  esac
  shift
done
if [ -n "$only" ] && ! { [ "$only" -ge 0 ] && [ "$only" -lt $count ]; } 2>/dev/null; then
  echo "No devices were found"; exit 6
fi
each() { # runs $1 for each GPU asked for
  i=0
  while [ $i -lt $count ]; do
    if [ -z "$only" ] || [ "$only" = $i ]; then uuid_of $i; $1 $i; fi
    i=$((i + 1))
  done
}
if [ -n "$list" ]; then
  line() { echo "GPU $1: $name (UUID: $uuid)"; }
  each line
  exit 0
fi
if [ -n "$query" ]; then
  case ,$format, in *,csv,*) ;; *) echo '"--format=" switch is missing. Please run '"'nvidia-smi -h'"' for help.'; exit 1 ;; esac
  units=1 header=1
  case ,$format, in *,nounits,*) units= ;; esac
  case ,$format, in *,noheader,*) header= ;; esac
  fields=$(echo "$query" | tr ',' ' ')
  value_of() { # sets value and unit
    unit=
    case $1 in
      index) value=$2 ;;
      count) value=$count ;;
      name|gpu_name) value=$name ;;
      uuid|gpu_uuid) value=$uuid ;;
      driver_version) value=$driver ;;
      compute_cap) value=$cap ;;
      pci.bus_id|gpu_bus_id) value=00000000:0$2:00.0 ;;
      memory.total) value=$memory unit=MiB ;;
      memory.used) value=1 unit=MiB ;;
      memory.free) value=$((memory - 1)) unit=MiB ;;
      memory.reserved) value=0 unit=MiB ;;
      utilization.gpu|utilization.memory) value=0 unit=% ;;
      temperature.gpu) value=31 ;;
      power.draw) value=24.31 unit=W ;;
      power.limit|power.max_limit) value=$power.00 unit=W ;;
      fan.speed) value=0 unit=% ;;
      pstate) value=P8 ;;
      *) return 1 ;;
    esac
  }
  top=
  for field in $fields; do
    uuid=
    value_of "$field" 0 || { echo "Field \"$field\" is not a valid field to query."; echo; exit 2; }
    [ -n "$unit" ] && [ -n "$units" ] && field="$field [$unit]"
    top="$top${top:+, }$field"
  done
  [ -n "$header" ] && echo "$top"
  line() {
    row=
    for field in $fields; do
      value_of "$field" "$1"
      [ -n "$unit" ] && [ -n "$units" ] && value="$value $unit"
      row="$row${row:+, }$value"
    done
    echo "$row"
  }
  each line
  exit 0
fi
bar='+-----------------------------------------------------------------------------------------+'
echo "$bar"
printf '| NVIDIA-SMI %-14s         Driver Version: %-14s CUDA Version: %-9s|\n' $driver $driver $cuda
echo '|-----------------------------------------+------------------------+----------------------+'
echo '| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |'
echo '| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |'
echo '|=========================================+========================+======================|'
line() {
  printf '| %3d  %-27s    On | 00000000:0%s:00.0 Off   |                  Off |\n' $1 "$name" $1
  printf '|  0%%   31C    P8              24W / %3dW | %6dMiB / %6dMiB    |      0%%      Default |\n' $power 1 $memory
  echo '+-----------------------------------------+------------------------+----------------------+'
}
each line
echo
echo "$bar"
echo '| Processes:                                                                              |'
echo '|  No running processes found                                                             |'
echo "$bar"
"#;
