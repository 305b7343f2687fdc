// Graphs: the driver's objects with parameters in the runtime's terms.
#include "client/runtime/graph_params.h"
#include "client/runtime/symbol.h"

using namespace farwarp::runtime;  // NOLINT(google-build-using-namespace): exports are global

// Returns from the body unless an Outcome is a success.
#define RT_TRY(expression) \
  if (const Outcome tried = (expression); !tried.ok()) return tried;

RT_API(cudaGraphCreate, (cudaGraph_t * pGraph, unsigned int flags),
       { return Pass(d.GraphCreate, pGraph, flags); })
RT_API(cudaGraphDestroy, (cudaGraph_t graph), { return d.GraphDestroy(graph); })
RT_API(cudaGraphClone, (cudaGraph_t * pGraphClone, cudaGraph_t originalGraph),
       { return Pass(d.GraphClone, pGraphClone, originalGraph); })

// Kernel nodes.
RT_API(cudaGraphAddKernelNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, const cudaKernelNodeParams* pNodeParams),
       {
         CUDA_KERNEL_NODE_PARAMS params;
         RT_TRY(ToDriver(d, pNodeParams, &params))
         return Pass(d.GraphAddKernelNode, pGraphNode, graph, pDependencies, numDependencies,
                     &params);
       })
RT_API(cudaGraphKernelNodeGetParams, (cudaGraphNode_t node, cudaKernelNodeParams* pNodeParams), {
  CUDA_KERNEL_NODE_PARAMS params = {};
  if (pNodeParams == nullptr) return cudaErrorInvalidValue;
  RT_TRY(d.GraphKernelNodeGetParams(node, &params))
  ToRuntime(params, pNodeParams);
  return cudaSuccess;
})
RT_API(cudaGraphKernelNodeSetParams,
       (cudaGraphNode_t node, const cudaKernelNodeParams* pNodeParams), {
         CUDA_KERNEL_NODE_PARAMS params;
         RT_TRY(ToDriver(d, pNodeParams, &params))
         return d.GraphKernelNodeSetParams(node, &params);
       })
RT_API(cudaGraphExecKernelNodeSetParams,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t node, const cudaKernelNodeParams* pNodeParams),
       {
         CUDA_KERNEL_NODE_PARAMS params;
         RT_TRY(ToDriver(d, pNodeParams, &params))
         return d.GraphExecKernelNodeSetParams(hGraphExec, node, &params);
       })
RT_API(cudaGraphKernelNodeCopyAttributes, (cudaGraphNode_t hDst, cudaGraphNode_t hSrc),
       { return d.GraphKernelNodeCopyAttributes(hDst, hSrc); })
RT_API(cudaGraphKernelNodeGetAttribute,
       (cudaGraphNode_t hNode, cudaLaunchAttributeID attr, cudaLaunchAttributeValue* value_out),
       { return Pass(d.GraphKernelNodeGetAttribute, hNode, attr, value_out); })
RT_API(cudaGraphKernelNodeSetAttribute,
       (cudaGraphNode_t hNode, cudaLaunchAttributeID attr, const cudaLaunchAttributeValue* value),
       { return Pass(d.GraphKernelNodeSetAttribute, hNode, attr, value); })

namespace {

Outcome AddCopy(const Driver& d, cudaGraphNode_t* node, cudaGraph_t graph,
                const cudaGraphNode_t* dependencies, size_t count, const CUDA_MEMCPY3D& copy) {
  CUcontext context = nullptr;
  RT_TRY(CurrentContext(d, &context))
  return Pass(d.GraphAddMemcpyNode, node, graph, dependencies, count, &copy, context);
}

Outcome SetExecCopy(const Driver& d, cudaGraphExec_t exec, cudaGraphNode_t node,
                    const CUDA_MEMCPY3D& copy) {
  CUcontext context = nullptr;
  RT_TRY(CurrentContext(d, &context))
  return d.GraphExecMemcpyNodeSetParams(exec, node, &copy, context);
}

Outcome CopyToSymbol(const Driver& d, const void* symbol, const void* source, size_t count,
                     size_t offset, cudaMemcpyKind kind, CUDA_MEMCPY3D* copy) {
  void* target = nullptr;
  RT_TRY(SymbolTarget(d, symbol, count, offset, kind, &target))
  return LinearCopy(target, source, count, kind, copy);
}

Outcome CopyFromSymbol(const Driver& d, void* target, const void* symbol, size_t count,
                       size_t offset, cudaMemcpyKind kind, CUDA_MEMCPY3D* copy) {
  void* source = nullptr;
  RT_TRY(SymbolSource(d, symbol, count, offset, kind, &source))
  return LinearCopy(target, source, count, kind, copy);
}

}  // namespace

// Copy nodes.
RT_API(cudaGraphAddMemcpyNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, const cudaMemcpy3DParms* pCopyParams),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(ToDriver(d, pCopyParams, &copy))
         return AddCopy(d, pGraphNode, graph, pDependencies, numDependencies, copy);
       })
RT_API(cudaGraphAddMemcpyNode1D,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, void* dst, const void* src, size_t count, cudaMemcpyKind kind),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(LinearCopy(dst, src, count, kind, &copy))
         return AddCopy(d, pGraphNode, graph, pDependencies, numDependencies, copy);
       })
RT_API(cudaGraphAddMemcpyNodeToSymbol,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, const void* symbol, const void* src, size_t count, size_t offset,
        cudaMemcpyKind kind),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(CopyToSymbol(d, symbol, src, count, offset, kind, &copy))
         return AddCopy(d, pGraphNode, graph, pDependencies, numDependencies, copy);
       })
RT_API(cudaGraphAddMemcpyNodeFromSymbol,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, void* dst, const void* symbol, size_t count, size_t offset,
        cudaMemcpyKind kind),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(CopyFromSymbol(d, dst, symbol, count, offset, kind, &copy))
         return AddCopy(d, pGraphNode, graph, pDependencies, numDependencies, copy);
       })
RT_API(cudaGraphMemcpyNodeGetParams, (cudaGraphNode_t node, cudaMemcpy3DParms* pNodeParams), {
  CUDA_MEMCPY3D copy = {};
  if (pNodeParams == nullptr) return cudaErrorInvalidValue;
  RT_TRY(d.GraphMemcpyNodeGetParams(node, &copy))
  return ToRuntime(d, copy, pNodeParams);
})
RT_API(cudaGraphMemcpyNodeSetParams, (cudaGraphNode_t node, const cudaMemcpy3DParms* pNodeParams), {
  CUDA_MEMCPY3D copy;
  RT_TRY(ToDriver(d, pNodeParams, &copy))
  return d.GraphMemcpyNodeSetParams(node, &copy);
})
RT_API(cudaGraphMemcpyNodeSetParams1D,
       (cudaGraphNode_t node, void* dst, const void* src, size_t count, cudaMemcpyKind kind), {
         CUDA_MEMCPY3D copy;
         RT_TRY(LinearCopy(dst, src, count, kind, &copy))
         return d.GraphMemcpyNodeSetParams(node, &copy);
       })
RT_API(cudaGraphMemcpyNodeSetParamsToSymbol,
       (cudaGraphNode_t node, const void* symbol, const void* src, size_t count, size_t offset,
        cudaMemcpyKind kind),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(CopyToSymbol(d, symbol, src, count, offset, kind, &copy))
         return d.GraphMemcpyNodeSetParams(node, &copy);
       })
RT_API(cudaGraphMemcpyNodeSetParamsFromSymbol,
       (cudaGraphNode_t node, void* dst, const void* symbol, size_t count, size_t offset,
        cudaMemcpyKind kind),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(CopyFromSymbol(d, dst, symbol, count, offset, kind, &copy))
         return d.GraphMemcpyNodeSetParams(node, &copy);
       })
RT_API(cudaGraphExecMemcpyNodeSetParams,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t node, const cudaMemcpy3DParms* pNodeParams), {
         CUDA_MEMCPY3D copy;
         RT_TRY(ToDriver(d, pNodeParams, &copy))
         return SetExecCopy(d, hGraphExec, node, copy);
       })
RT_API(cudaGraphExecMemcpyNodeSetParams1D,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t node, void* dst, const void* src, size_t count,
        cudaMemcpyKind kind),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(LinearCopy(dst, src, count, kind, &copy))
         return SetExecCopy(d, hGraphExec, node, copy);
       })
RT_API(cudaGraphExecMemcpyNodeSetParamsToSymbol,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t node, const void* symbol, const void* src,
        size_t count, size_t offset, cudaMemcpyKind kind),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(CopyToSymbol(d, symbol, src, count, offset, kind, &copy))
         return SetExecCopy(d, hGraphExec, node, copy);
       })
RT_API(cudaGraphExecMemcpyNodeSetParamsFromSymbol,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t node, void* dst, const void* symbol,
        size_t count, size_t offset, cudaMemcpyKind kind),
       {
         CUDA_MEMCPY3D copy;
         RT_TRY(CopyFromSymbol(d, dst, symbol, count, offset, kind, &copy))
         return SetExecCopy(d, hGraphExec, node, copy);
       })

// Fill nodes.
RT_API(cudaGraphAddMemsetNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, const cudaMemsetParams* pMemsetParams),
       {
         CUcontext context = nullptr;
         RT_TRY(CurrentContext(d, &context))
         return Pass(d.GraphAddMemsetNode, pGraphNode, graph, pDependencies, numDependencies,
                     pMemsetParams, context);
       })
RT_API(cudaGraphMemsetNodeGetParams, (cudaGraphNode_t node, cudaMemsetParams* pNodeParams),
       { return Pass(d.GraphMemsetNodeGetParams, node, pNodeParams); })
RT_API(cudaGraphMemsetNodeSetParams, (cudaGraphNode_t node, const cudaMemsetParams* pNodeParams),
       { return Pass(d.GraphMemsetNodeSetParams, node, pNodeParams); })
RT_API(cudaGraphExecMemsetNodeSetParams,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t node, const cudaMemsetParams* pNodeParams), {
         CUcontext context = nullptr;
         RT_TRY(CurrentContext(d, &context))
         return Pass(d.GraphExecMemsetNodeSetParams, hGraphExec, node, pNodeParams, context);
       })

// Host, child, empty, event and memory nodes.
RT_API(cudaGraphAddHostNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, const cudaHostNodeParams* pNodeParams),
       {
         return Pass(d.GraphAddHostNode, pGraphNode, graph, pDependencies, numDependencies,
                     pNodeParams);
       })
RT_API(cudaGraphHostNodeGetParams, (cudaGraphNode_t node, cudaHostNodeParams* pNodeParams),
       { return Pass(d.GraphHostNodeGetParams, node, pNodeParams); })
RT_API(cudaGraphHostNodeSetParams, (cudaGraphNode_t node, const cudaHostNodeParams* pNodeParams),
       { return Pass(d.GraphHostNodeSetParams, node, pNodeParams); })
RT_API(cudaGraphExecHostNodeSetParams,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t node, const cudaHostNodeParams* pNodeParams),
       { return Pass(d.GraphExecHostNodeSetParams, hGraphExec, node, pNodeParams); })
RT_API(cudaGraphAddChildGraphNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, cudaGraph_t childGraph),
       {
         return Pass(d.GraphAddChildGraphNode, pGraphNode, graph, pDependencies, numDependencies,
                     childGraph);
       })
RT_API(cudaGraphChildGraphNodeGetGraph, (cudaGraphNode_t node, cudaGraph_t* pGraph),
       { return Pass(d.GraphChildGraphNodeGetGraph, node, pGraph); })
RT_API(cudaGraphExecChildGraphNodeSetParams,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t node, cudaGraph_t childGraph),
       { return Pass(d.GraphExecChildGraphNodeSetParams, hGraphExec, node, childGraph); })
RT_API(cudaGraphAddEmptyNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies),
       { return Pass(d.GraphAddEmptyNode, pGraphNode, graph, pDependencies, numDependencies); })
RT_API(cudaGraphAddEventRecordNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, cudaEvent_t event),
       {
         return Pass(d.GraphAddEventRecordNode, pGraphNode, graph, pDependencies, numDependencies,
                     event);
       })
RT_API(cudaGraphEventRecordNodeGetEvent, (cudaGraphNode_t node, cudaEvent_t* event_out),
       { return Pass(d.GraphEventRecordNodeGetEvent, node, event_out); })
RT_API(cudaGraphEventRecordNodeSetEvent, (cudaGraphNode_t node, cudaEvent_t event),
       { return Pass(d.GraphEventRecordNodeSetEvent, node, event); })
RT_API(cudaGraphExecEventRecordNodeSetEvent,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t hNode, cudaEvent_t event),
       { return Pass(d.GraphExecEventRecordNodeSetEvent, hGraphExec, hNode, event); })
RT_API(cudaGraphAddEventWaitNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, cudaEvent_t event),
       {
         return Pass(d.GraphAddEventWaitNode, pGraphNode, graph, pDependencies, numDependencies,
                     event);
       })
RT_API(cudaGraphEventWaitNodeGetEvent, (cudaGraphNode_t node, cudaEvent_t* event_out),
       { return Pass(d.GraphEventWaitNodeGetEvent, node, event_out); })
RT_API(cudaGraphEventWaitNodeSetEvent, (cudaGraphNode_t node, cudaEvent_t event),
       { return Pass(d.GraphEventWaitNodeSetEvent, node, event); })
RT_API(cudaGraphExecEventWaitNodeSetEvent,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t hNode, cudaEvent_t event),
       { return Pass(d.GraphExecEventWaitNodeSetEvent, hGraphExec, hNode, event); })
RT_API(cudaGraphAddMemAllocNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, cudaMemAllocNodeParams* nodeParams),
       {
         return Pass(d.GraphAddMemAllocNode, pGraphNode, graph, pDependencies, numDependencies,
                     nodeParams);
       })
RT_API(cudaGraphMemAllocNodeGetParams, (cudaGraphNode_t node, cudaMemAllocNodeParams* params_out),
       { return Pass(d.GraphMemAllocNodeGetParams, node, params_out); })
RT_API(cudaGraphAddMemFreeNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        size_t numDependencies, void* dptr),
       {
         return Pass(d.GraphAddMemFreeNode, pGraphNode, graph, pDependencies, numDependencies,
                     dptr);
       })
RT_API(cudaGraphMemFreeNodeGetParams, (cudaGraphNode_t node, void* dptr_out),
       { return Pass(d.GraphMemFreeNodeGetParams, node, static_cast<void**>(dptr_out)); })

// Any node by the general form.
RT_API(cudaGraphAddNode,
       (cudaGraphNode_t * pGraphNode, cudaGraph_t graph, const cudaGraphNode_t* pDependencies,
        const cudaGraphEdgeData* dependencyData, size_t numDependencies,
        cudaGraphNodeParams* nodeParams),
       {
         CUgraphNodeParams params;
         RT_TRY(ToDriver(d, nodeParams, &params))
         RT_TRY(Pass(d.GraphAddNode, pGraphNode, graph, pDependencies, dependencyData,
                     numDependencies, &params))
         CopyResults(params, nodeParams);
         return cudaSuccess;
       })
RT_API(cudaGraphNodeSetParams, (cudaGraphNode_t node, cudaGraphNodeParams* nodeParams), {
  CUgraphNodeParams params;
  RT_TRY(ToDriver(d, nodeParams, &params))
  return d.GraphNodeSetParams(node, &params);
})
RT_API(cudaGraphExecNodeSetParams,
       (cudaGraphExec_t graphExec, cudaGraphNode_t node, cudaGraphNodeParams* nodeParams), {
         CUgraphNodeParams params;
         RT_TRY(ToDriver(d, nodeParams, &params))
         return d.GraphExecNodeSetParams(graphExec, node, &params);
       })
RT_API(cudaGraphConditionalHandleCreate,
       (cudaGraphConditionalHandle * pHandle_out, cudaGraph_t graph,
        unsigned int defaultLaunchValue, unsigned int flags),
       {
         CUcontext context = nullptr;
         RT_TRY(CurrentContext(d, &context))
         return Pass(d.GraphConditionalHandleCreate, pHandle_out, graph, context,
                     defaultLaunchValue, flags);
       })

// Structure.
RT_API(cudaGraphNodeFindInClone,
       (cudaGraphNode_t * pNode, cudaGraphNode_t originalNode, cudaGraph_t clonedGraph),
       { return Pass(d.GraphNodeFindInClone, pNode, originalNode, clonedGraph); })
RT_API(cudaGraphNodeGetType, (cudaGraphNode_t node, cudaGraphNodeType* pType),
       { return Pass(d.GraphNodeGetType, node, pType); })
RT_API(cudaGraphGetNodes, (cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* numNodes),
       { return Pass(d.GraphGetNodes, graph, nodes, numNodes); })
RT_API(cudaGraphGetRootNodes,
       (cudaGraph_t graph, cudaGraphNode_t* pRootNodes, size_t* pNumRootNodes),
       { return Pass(d.GraphGetRootNodes, graph, pRootNodes, pNumRootNodes); })
RT_API(cudaGraphGetEdges,
       (cudaGraph_t graph, cudaGraphNode_t* from, cudaGraphNode_t* to, cudaGraphEdgeData* edgeData,
        size_t* numEdges),
       { return Pass(d.GraphGetEdges, graph, from, to, edgeData, numEdges); })
RT_API(cudaGraphNodeGetDependencies,
       (cudaGraphNode_t node, cudaGraphNode_t* pDependencies, cudaGraphEdgeData* edgeData,
        size_t* pNumDependencies),
       {
         return Pass(d.GraphNodeGetDependencies, node, pDependencies, edgeData, pNumDependencies);
       })
RT_API(cudaGraphNodeGetDependentNodes,
       (cudaGraphNode_t node, cudaGraphNode_t* pDependentNodes, cudaGraphEdgeData* edgeData,
        size_t* pNumDependentNodes),
       {
         return Pass(d.GraphNodeGetDependentNodes, node, pDependentNodes, edgeData,
                     pNumDependentNodes);
       })
RT_API(cudaGraphAddDependencies,
       (cudaGraph_t graph, const cudaGraphNode_t* from, const cudaGraphNode_t* to,
        const cudaGraphEdgeData* edgeData, size_t numDependencies),
       { return Pass(d.GraphAddDependencies, graph, from, to, edgeData, numDependencies); })
RT_API(cudaGraphRemoveDependencies,
       (cudaGraph_t graph, const cudaGraphNode_t* from, const cudaGraphNode_t* to,
        const cudaGraphEdgeData* edgeData, size_t numDependencies),
       { return Pass(d.GraphRemoveDependencies, graph, from, to, edgeData, numDependencies); })
RT_API(cudaGraphDestroyNode, (cudaGraphNode_t node), { return d.GraphDestroyNode(node); })
RT_API(cudaGraphDebugDotPrint, (cudaGraph_t graph, const char* path, unsigned int flags),
       { return d.GraphDebugDotPrint(graph, path, flags); })

// Execution.
RT_API(cudaGraphInstantiate,
       (cudaGraphExec_t * pGraphExec, cudaGraph_t graph, unsigned long long flags),
       { return Pass(d.GraphInstantiateWithFlags, pGraphExec, graph, flags); })
RT_API(cudaGraphInstantiateWithFlags,
       (cudaGraphExec_t * pGraphExec, cudaGraph_t graph, unsigned long long flags),
       { return Pass(d.GraphInstantiateWithFlags, pGraphExec, graph, flags); })
RT_API_PTSZ(cudaGraphInstantiateWithParams,
            (cudaGraphExec_t * pGraphExec, cudaGraph_t graph,
             cudaGraphInstantiateParams* instantiateParams),
            { return Pass(d.GraphInstantiateWithParams, pGraphExec, graph, instantiateParams); })
RT_API(cudaGraphExecGetFlags, (cudaGraphExec_t graphExec, unsigned long long* flags),
       { return Pass(d.GraphExecGetFlags, graphExec, flags); })
RT_API(cudaGraphNodeSetEnabled,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t hNode, unsigned int isEnabled),
       { return d.GraphNodeSetEnabled(hGraphExec, hNode, isEnabled); })
RT_API(cudaGraphNodeGetEnabled,
       (cudaGraphExec_t hGraphExec, cudaGraphNode_t hNode, unsigned int* isEnabled),
       { return d.GraphNodeGetEnabled(hGraphExec, hNode, isEnabled); })
RT_API(cudaGraphExecUpdate,
       (cudaGraphExec_t hGraphExec, cudaGraph_t hGraph, cudaGraphExecUpdateResultInfo* resultInfo),
       { return Pass(d.GraphExecUpdate, hGraphExec, hGraph, resultInfo); })
RT_API_PTSZ(cudaGraphUpload, (cudaGraphExec_t graphExec, cudaStream_t stream),
            { return d.GraphUpload(graphExec, stream); })
RT_API_PTSZ(cudaGraphLaunch, (cudaGraphExec_t graphExec, cudaStream_t stream),
            { return d.GraphLaunch(graphExec, stream); })
RT_API(cudaGraphExecDestroy, (cudaGraphExec_t graphExec), { return d.GraphExecDestroy(graphExec); })

// Objects whose life is tied to graphs, and memory that graphs own.
RT_API(cudaUserObjectCreate,
       (cudaUserObject_t * object_out, void* ptr, cudaHostFn_t destroy,
        unsigned int initialRefcount, unsigned int flags),
       { return Pass(d.UserObjectCreate, object_out, ptr, destroy, initialRefcount, flags); })
RT_API(cudaUserObjectRetain, (cudaUserObject_t object, unsigned int count),
       { return d.UserObjectRetain(object, count); })
RT_API(cudaUserObjectRelease, (cudaUserObject_t object, unsigned int count),
       { return d.UserObjectRelease(object, count); })
RT_API(cudaGraphRetainUserObject,
       (cudaGraph_t graph, cudaUserObject_t object, unsigned int count, unsigned int flags),
       { return d.GraphRetainUserObject(graph, object, count, flags); })
RT_API(cudaGraphReleaseUserObject, (cudaGraph_t graph, cudaUserObject_t object, unsigned int count),
       { return d.GraphReleaseUserObject(graph, object, count); })
RT_API_INIT(cudaDeviceGraphMemTrim, (int device), {
  CUdevice handle = 0;
  RT_TRY(Process::Get().Device(device, &handle))
  return d.DeviceGraphMemTrim(handle);
})
RT_API_INIT(cudaDeviceGetGraphMemAttribute,
            (int device, cudaGraphMemAttributeType attr, void* value), {
              CUdevice handle = 0;
              RT_TRY(Process::Get().Device(device, &handle))
              return Pass(d.DeviceGetGraphMemAttribute, handle, attr, value);
            })
RT_API_INIT(cudaDeviceSetGraphMemAttribute,
            (int device, cudaGraphMemAttributeType attr, void* value), {
              CUdevice handle = 0;
              RT_TRY(Process::Get().Device(device, &handle))
              return Pass(d.DeviceSetGraphMemAttribute, handle, attr, value);
            })
