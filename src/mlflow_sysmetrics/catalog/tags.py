"""What the host is, and what the plugin says of itself: the tags of a run."""

from __future__ import annotations

from functools import partial

from mlflow_sysmetrics.catalog.model import LINUX, LINUX_AND_WINDOWS, Tag

_NOT_LIMITED = "where nothing limits the process below what the host has"
_NO_DIRECTORY = "where the working directory has been deleted, or its file system does not answer"
_NO_KUBERNETES = "outside Kubernetes"

_disk = partial(Tag, source="shutil.disk_usage", absent=_NO_DIRECTORY)
_kubernetes = partial(Tag, platforms=LINUX_AND_WINDOWS)
_slurm = partial(Tag, absent="outside SLURM", platforms=LINUX)

TAGS = (
    Tag(
        "sys.cpu",
        "CPU model.",
        "AMD EPYC 7763 64-Core Processor",
        source="/proc/cpuinfo; sysctl on macOS, the registry on Windows",
        absent="where the system does not name the model",
    ),
    Tag("sys.cpu_cores", "Logical CPUs of the host.", "64", source="os.cpu_count"),
    Tag(
        "sys.cpu_physical_cores",
        "Physical cores of the host.",
        "32",
        source="psutil.cpu_count",
        absent="where the system does not report them",
    ),
    Tag(
        "sys.cpu_limit",
        "CPUs that this process may use (cgroup quota, cpuset, affinity).",
        "3.5",
        source="cpu.max (version 1: cpu.cfs_quota_us), cpuset.cpus, /proc/self/status",
        absent=_NOT_LIMITED,
        platforms=LINUX,
    ),
    Tag(
        "sys.memory_gb",
        "Memory of the host, 10^9 bytes.",
        "540.63",
        source="/proc/meminfo; psutil elsewhere",
    ),
    Tag(
        "sys.memory_limit_gb",
        "Memory limit of the tightest cgroup, 10^9 bytes.",
        "17.18",
        source="memory.max (version 1: memory.limit_in_bytes, memory.stat)",
        absent=_NOT_LIMITED,
        platforms=LINUX,
    ),
    _disk(
        "sys.disk_free_gb",
        "Free space on the working directory's file system as the run opened, 10^9 bytes.",
        "812.4",
    ),
    _disk(
        "sys.disk_total_gb",
        "Size of the working directory's file system, 10^9 bytes.",
        "1967.84",
    ),
    Tag(
        "sys.platform",
        "Python's name for the platform.",
        "Linux-6.8.0-45-generic-x86_64-with-glibc2.39",
        source="platform.platform",
    ),
    Tag(
        "sys.os",
        "Name of the operating system.",
        "Ubuntu 24.04.1 LTS",
        source="/etc/os-release; platform elsewhere",
        absent="on a Linux without os-release",
    ),
    Tag("sys.kernel", "Kernel release.", "6.8.0-45-generic", source="platform.release"),
    Tag("sys.arch", "Machine architecture.", "x86_64", source="platform.machine"),
    Tag("sys.hostname", "Network name of the host.", "node-17", source="platform.node"),
    Tag(
        "sys.python",
        "Python implementation and version.",
        "CPython 3.12.7",
        source="platform.python_version",
    ),
    Tag(
        "sys.gpu",
        "Models of the GPUs; `None` where the host has no GPU.",
        "8 x NVIDIA H100 80GB HBM3",
        source="NVML, nvidia-smi, /sys (amdgpu, xe, i915); system_profiler on macOS, "
        "Win32_VideoController on Windows",
        absent="where the tool that lists the GPUs fails",
    ),
    Tag(
        "sys.gpu_count",
        "Number of GPUs.",
        "8",
        source="as for `sys.gpu`",
        absent="without a GPU",
    ),
    Tag(
        "sys.gpu_memory_gb",
        "Memory of all GPUs together, 10^9 bytes.",
        "683.98",
        source="NVML, nvidia-smi, /sys (amdgpu, xe); system_profiler on macOS",
        absent="without a GPU, and where one does not report its memory",
    ),
    Tag(
        "sys.gpu_driver",
        "Version of the GPU driver.",
        "560.35.03",
        source="NVML, nvidia-smi, /sys (amdgpu); Win32_VideoController on Windows",
        absent="without a GPU, and where its driver reports no version",
        platforms=LINUX_AND_WINDOWS,
    ),
    Tag(
        "sys.cuda",
        "Newest CUDA version that the driver supports.",
        "12.6",
        source="NVML",
        absent="without NVML",
        platforms=LINUX_AND_WINDOWS,
    ),
    Tag(
        "sys.gpu_devices",
        "The GPUs as JSON, by the number in their metrics' keys; what all have in common is under "
        "`all`. If that is too long for a tag, the GPUs with the highest numbers are left out.",
        '{"all":{"name":"NVIDIA H100 80GB HBM3","memory_gb":85.52,"compute_capability":"9.0",'
        '"power_limit_watts":700},"0":{"uuid":"GPU-1a2b3c4d-d72c-4106-c12f-20bd9faed9f6",'
        '"pci":"1b:00.0"},"1":{"uuid":"GPU-5e6f7a8b-31c9-4c8e-9a55-0f6f1f3f6a11",'
        '"pci":"43:00.0"}}',
        source="NVML, /sys (amdgpu, xe, i915)",
        absent="without a GPU, and where none reports a UUID or PCI address",
        platforms=LINUX_AND_WINDOWS,
    ),
    Tag(
        "sys.gpu_metrics",
        "Source of the run's GPU metrics, such as `nvml`; and the reason why other hardware "
        "reports nothing.",
        "unavailable: nvml: the NVIDIA driver is not loaded; dmesg may show why",
        source="NVML, /sys (amdgpu, xe, i915), ioreg, libtpu, neuron-monitor",
        absent="on a host without such hardware",
    ),
    Tag(
        "sys.container",
        "Container runtime around the process.",
        "docker",
        source="environment, marks of the runtimes such as /.dockerenv, /proc/self/cgroup",
        absent="outside a container, and in one that leaves no mark",
        platforms=LINUX_AND_WINDOWS,
    ),
    Tag(
        "sys.virtualization",
        "Hypervisor under the host.",
        "kvm",
        source="/sys/class/dmi/id, /sys/devices/system/clocksource, /sys/hypervisor, "
        "/proc/sys/kernel/osrelease",
        absent="on bare metal, and under a hypervisor that nothing names",
        platforms=LINUX,
    ),
    _kubernetes(
        "sys.k8s_pod",
        "Kubernetes pod.",
        "trainer-7d9f8b6c5-x2x4k",
        source="environment (POD_NAME, MY_POD_NAME, K8S_POD_NAME; HOSTNAME, if it is a name that "
        "Kubernetes generated)",
        absent="outside Kubernetes, and where neither the pod's spec nor the host name gives it",
    ),
    _kubernetes(
        "sys.k8s_namespace",
        "Kubernetes namespace.",
        "ml-team",
        source="environment (POD_NAMESPACE, MY_POD_NAMESPACE, K8S_POD_NAMESPACE, K8S_NAMESPACE), "
        "the mounted service account",
        absent=_NO_KUBERNETES,
    ),
    _kubernetes(
        "sys.k8s_node",
        "Kubernetes node.",
        "gpu-node-3",
        source="environment (NODE_NAME, MY_NODE_NAME, K8S_NODE_NAME)",
        absent="outside Kubernetes, and where the pod's spec does not pass it on",
    ),
    _slurm("sys.slurm_job_id", "SLURM job.", "412077", source="environment (SLURM_JOB_ID)"),
    _slurm(
        "sys.slurm_nodelist",
        "Nodes of the SLURM job; a list of more than 5,000 bytes is cut and ends in `…`.",
        "node[01-04]",
        source="environment (SLURM_JOB_NODELIST)",
    ),
    _slurm(
        "sys.slurm_partition",
        "Partition of the SLURM job.",
        "gpu",
        source="environment (SLURM_JOB_PARTITION)",
    ),
    Tag(
        "sysmetrics.gpu_allocation",
        "Variable by which a scheduler or a device plugin gave the process its GPUs: these are "
        "judged as the run's, even while nothing runs there.",
        "SLURM_JOB_GPUS",
        source="environment (SLURM_STEP_GPUS, SLURM_JOB_GPUS, SLURM_GPUS_ON_NODE, "
        "_CONDOR_AssignedGPUs, NVIDIA_VISIBLE_DEVICES where it chooses devices)",
        absent="where none is set, and with MLFLOW_SYSMETRICS_GPUS=all",
        platforms=LINUX,
    ),
    Tag(
        "sys.nodes",
        "The hosts of a job on several, as JSON, by the number in their metrics' keys "
        "(`system/node_1/…`); what all have in common stands once, under `all`. `id` tells a host "
        "from the others.",
        '{"all":{"cpus":64,"gpus":"8 x NVIDIA H100 80GB HBM3"},"0":{"host":"node-17",'
        '"id":"1f3a9c"},"1":{"host":"node-18","id":"77b0de"}}',
        source="as for `sys.hostname`, `sys.cpu_cores`, `sys.gpu`",
        absent="outside a job on several hosts",
    ),
    Tag(
        "sysmetrics.host_1f3a9c",
        "What one host of a job says of itself for `sys.nodes`, with its number. The key ends with "
        "the host's `id`.",
        '{"node":1,"host":"node-18","cpus":64}',
        source="as for `sys.nodes`",
        absent="outside a job on several hosts",
    ),
    Tag(
        "sysmetrics.job",
        "Name of the job on several hosts, hashed, by which they find the run; after the point, "
        "which process opened it.",
        "9c1f2f0a6b7d4e58.1f3a9c77b0de",
        source="the launcher's variables",
        absent="outside a job on several hosts",
    ),
    Tag(
        "sysmetrics.error",
        "Facts that could not be read, with the reason.",
        "gpu: nvidia-smi did not answer within 3 s",
        source="the plugin",
        absent="unless reading a fact failed",
    ),
    Tag(
        "sysmetrics.dropped_samples",
        "Number of samples that were lost, because memory was full and the disk refused them.",
        "120",
        source="the plugin",
        absent="unless samples were lost",
    ),
    Tag(
        "sys.findings",
        "What was wrong with the run, the worst first: ids of findings, `!` before a critical one, "
        "those of mere interest after `info:`, each with the nodes it was found on where there are "
        "several; `none` where nothing was found, `none (too short for most)` where the run was "
        "too short for the rules on means and trends. Of a resumed run, "
        "`(of the part since …)` says which part was judged.",
        "!gpu-idle, cpu-bound-input; info: cpu-overprovisioned",
        source="the samples",
        absent="where findings are off, or none could be judged",
    ),
    Tag(
        "sysmetrics.summary",
        "Whether the summary is `provisional`, `final`, or `recomputed` by "
        "`mlflow-sysmetrics summarize`; of a run on several hosts, how many of them have told all "
        "(`provisional, 1 of 2 nodes`); of a resumed run whose earlier parts are not known, since "
        "when it is.",
        "final",
        source="the plugin",
        absent="where the summary is off, and with fewer than 3 samples",
    ),
    Tag(
        "sysmetrics.node_{index}",
        "What one host of a job on several says of itself, by the number in its metrics' keys: "
        "`provisional` or `final`, what was found there, and, compressed, what the summary and "
        "the findings of the whole run are made of.",
        "final; !gpu-idle 1:eJyrVkpUslIyUNJRSlSyUjJQqgUAJpIEaQ== 1:eJyrVkpUslIyUNJRSg==",
        source="the samples",
        absent="outside a job on several hosts, where the host's name was set by hand, and where "
        "summary and findings are off",
    ),
    Tag(
        "sysmetrics.statistics",
        "The statistics behind the summary, for when the run is resumed: compressed JSON.",
        "1:eNqrVkpUslIyUNJRSlSyUjJQqgUAJpIEaQ==",
        source="the samples",
        absent="where there is no summary",
    ),
)
